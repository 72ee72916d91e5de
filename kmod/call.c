// SPDX-License-Identifier: GPL-2.0
#include <linux/completion.h>
#include <linux/ktime.h>
#include <linux/sched.h>

#include "channel_private.h"

/* On the stack of the caller; done() of the request is the only other one that touches it. */
struct call_wait {
	struct completion done;
	s32 result;
};

static enum weft_kind call_kind(u32 flags)
{
	return flags & WEFT_CALL_RESERVED ? WEFT_KIND_RESERVED : WEFT_KIND_NORMAL;
}

static enum weft_wait call_wait(u32 flags)
{
	return flags & WEFT_CALL_KILLABLE ? WEFT_WAIT_KILLABLE : WEFT_WAIT_ALWAYS;
}

int weft_call_begin(struct weft_channel *ch, struct weft_call *call, u32 op, u64 ino, u32 flags)
{
	struct weft_slot *slot;

	slot = weft_slot_take_meta(&ch->buffer, call_kind(flags), call_wait(flags));
	if (IS_ERR(slot))
		return PTR_ERR(slot);
	memset(slot->data, 0, WEFT_CALL_ZEROED);
	call->ch = ch;
	call->slot = slot;
	call->flags = flags;
	call->req = slot->data;
	call->args = call->req + 1;
	call->rep = slot->data + WEFT_META_REQ_BYTES;
	call->req->op = op;
	call->req->ino = ino;
	call->req->now_ns = ktime_get_real_ns();
	return 0;
}

static void call_done(struct weft_request *request, s32 result)
{
	struct call_wait *wait = request->owner;

	wait->result = result == -ECANCELED ? -EIO : result;
	complete(&wait->done);		/* wait is gone after this */
}

static struct weft_request *call_build(struct weft_call *call, u32 length, struct call_wait *wait)
{
	struct weft_channel *ch = call->ch;
	struct weft_slot *slot = call->slot;
	struct weft_request *request;

	request = weft_request_take(ch, call_kind(call->flags), call_wait(call->flags));
	if (IS_ERR(request))
		return request;
	request->sqe.op = WEFT_OP_META;
	request->sqe.length = length;
	request->sqe.buf = slot->offset;
	request->sqe.meta_slot = slot->index;
	if (call->flags & WEFT_CALL_CHANGES)
		request->sqe.meta_seq = ++ch->meta_seq[slot->index];
	weft_slot_get(slot);
	request->slot = slot;
	request->done = call_done;
	request->owner = wait;
	return request;
}

ssize_t weft_call_send(struct weft_call *call, size_t args_bytes)
{
	struct call_wait wait = { .done = COMPLETION_INITIALIZER_ONSTACK(wait.done) };
	struct weft_request *request;
	bool killable = call->flags & WEFT_CALL_KILLABLE;
	u64 tag;

	if (WARN_ON_ONCE(args_bytes > WEFT_META_REQ_BYTES - sizeof(*call->req)))
		return -EMSGSIZE;
	call->req->length = sizeof(*call->req) + args_bytes;
	request = call_build(call, call->req->length, &wait);
	if (IS_ERR(request))
		return PTR_ERR(request);
	tag = weft_request_tag(request);
	weft_request_send(request);

	/* TASK_IDLE: waiting for a dead agent is not a hang of the kernel */
	if (wait_for_completion_state(&wait.done, killable ? TASK_KILLABLE : TASK_IDLE)) {
		if (weft_request_abandon(call->ch, tag))
			return -EINTR;
		wait_for_completion(&wait.done);	/* the answer is being delivered just now */
	}
	return wait.result;
}

void weft_call_end(struct weft_call *call)
{
	weft_slot_put(call->slot);
	call->slot = NULL;
}

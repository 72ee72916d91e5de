/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the rest of the module sees of the channel: find one by cluster name, make metadata calls.
 * Block requests go through the pool disk (pool.h), the only other user.
 */
#ifndef _WEFT_CHANNEL_H
#define _WEFT_CHANNEL_H

#include <linux/types.h>
#include "uapi/weft.h"

struct weft_channel;

/* The channel of a cluster; NULL: no agent has ever attached for it. Reference counted. */
struct weft_channel *weft_channel_get(const char *cluster);
void weft_channel_put(struct weft_channel *ch);

/*
 * One mount a channel. Claim: -EBUSY when taken. Sets how parked requests behave. Release: forgets
 * the session. soft: a request that has been parked for grace_ms fails with -EIO; hard waits.
 */
int weft_channel_claim(struct weft_channel *ch, bool soft, u32 grace_ms);
void weft_channel_release(struct weft_channel *ch);
void weft_channel_set_session(struct weft_channel *ch, u64 session);
void weft_channel_set_lease(struct weft_channel *ch, u64 until_ns);	/* CLOCK_BOOTTIME */
/* umount -f: all unfinished and future requests fail with -EIO. */
void weft_channel_abort(struct weft_channel *ch);

/* How a call may wait. */
#define WEFT_CALL_KILLABLE	0x1	/* a fatal signal gives up: -EINTR, see below */
#define WEFT_CALL_RESERVED	0x2	/* may use the slots kept for writeback; GFP_NOFS */
#define WEFT_CALL_CHANGES	0x4	/* changes state: executed at most once (gets a meta_seq) */

#define WEFT_CALL_ZEROED	512	/* bytes: more than any operation's fixed part */

/*
 * A metadata call. Do not hold one while waiting for I/O or for another call: the failure of a
 * write is itself settled by a call. Begin takes a message slot (waits for one); req is zeroed,
 * op, length, ino and now_ns are the caller's to fill (length by weft_call_send). Send returns
 * the bytes of the answer in rep, which stays valid until end, or -errno. After -EINTR the
 * channel owns the slot until the answer is in; whether the operation was executed is unknown:
 * the caller must drop what it had cached of it. Only weft_call_end() may follow.
 */
struct weft_call {
	struct weft_meta_req *req;	/* WEFT_META_REQ_BYTES; WEFT_CALL_ZEROED are zeroed */
	void *args;			/* behind req: the operation's own struct */
	const void *rep;		/* WEFT_META_REP_BYTES, the agent's: copy before checking */
	struct weft_slot *slot;		/* the channel's */
	struct weft_channel *ch;
	u32 flags;
};

int weft_call_begin(struct weft_channel *ch, struct weft_call *call, u32 op, u64 ino, u32 flags);
ssize_t weft_call_send(struct weft_call *call, size_t args_bytes);
void weft_call_end(struct weft_call *call);

int weft_channel_init(void);
void weft_channel_exit(void);

#endif

// SPDX-License-Identifier: GPL-2.0
/* weft_balancer_ops as a struct_ops type, and the kfunc that policies look at targets with. */
#include <linux/bpf.h>
#include <linux/bpf_verifier.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/ctype.h>
#include <linux/module.h>

#include "balancer_private.h"
#include "channel_private.h"
#include "target.h"

static struct bpf_struct_ops bpf_weft_balancer_ops;

/* ---- kfunc ---- */

__bpf_kfunc_start_defs();

__bpf_kfunc int weft_target_stat(u32 id, struct weft_target_stat *stat, u32 stat__sz)
{
	struct weft_target_stat now;
	struct weft_target *target = NULL;
	struct weft_channel *ch;

	rcu_read_lock();
	ch = weft_channel_by_number(weft_balancer_cluster());
	if (ch)
		target = weft_target_find(ch, id);
	if (target)
		weft_target_fill_stat(target, &now);
	rcu_read_unlock();
	if (!target)
		return -ENOENT;
	memcpy(stat, &now, min_t(size_t, stat__sz, sizeof(now)));
	if (stat__sz > sizeof(now))
		memset((void *)stat + sizeof(now), 0, stat__sz - sizeof(now));
	return 0;
}

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(weft_kfunc_ids)
BTF_ID_FLAGS(func, weft_target_stat)
BTF_KFUNCS_END(weft_kfunc_ids)

static const struct btf_kfunc_id_set weft_kfunc_set = {
	.owner	= THIS_MODULE,
	.set	= &weft_kfunc_ids,
};

/* ---- struct_ops ---- */

static int balancer_ops_init(struct btf *btf)
{
	return 0;
}

/* Of letters, digits and "_.-", or nobody could tell policies apart in sysfs and the log. */
static bool name_is_valid(const char name[WEFT_BALANCER_NAME_LEN])
{
	size_t i, len = strnlen(name, WEFT_BALANCER_NAME_LEN);

	for (i = 0; i < len; i++)
		if (!isalnum(name[i]) && !strchr("_.-", name[i]))
			return false;
	return len && len < WEFT_BALANCER_NAME_LEN;
}

static int balancer_ops_init_member(const struct btf_type *t, const struct btf_member *member,
				    void *kdata, const void *udata)
{
	const struct weft_balancer_ops *from = udata;
	struct weft_balancer_ops *to = kdata;

	if (__btf_member_bit_offset(t, member) / 8 != offsetof(struct weft_balancer_ops, name))
		return 0;
	if (!name_is_valid(from->name))
		return -EINVAL;
	strscpy(to->name, from->name);
	return 1;
}

static int balancer_ops_reg(void *kdata, struct bpf_link *link)
{
	return weft_balancer_attach(kdata);
}

static void balancer_ops_unreg(void *kdata, struct bpf_link *link)
{
	weft_balancer_detach(kdata);
}

static int balancer_ops_update(void *kdata, void *old_kdata, struct bpf_link *link)
{
	return weft_balancer_replace(kdata, old_kdata);
}

static int balancer_ops_validate(void *kdata)
{
	return 0;	/* a callback that is left out means the built-in choice */
}

static bool balancer_is_valid_access(int off, int size, enum bpf_access_type type,
				     const struct bpf_prog *prog, struct bpf_insn_access_aux *info)
{
	return bpf_tracing_btf_ctx_access(off, size, type, prog, info);
}

/* Without btf_struct_access: programs read their arguments and write nothing. */
static const struct bpf_verifier_ops balancer_verifier_ops = {
	.get_func_proto		= bpf_base_func_proto,
	.is_valid_access	= balancer_is_valid_access,
};

static s32 pick_read_stub(const struct weft_io *io)
{
	return 0;
}

static s32 pick_place_stub(const struct weft_place *place)
{
	return 0;
}

static void io_done_stub(const struct weft_done *done)
{
}

static struct weft_balancer_ops balancer_cfi_stubs = {
	.pick_read	= pick_read_stub,
	.pick_place	= pick_place_stub,
	.io_done	= io_done_stub,
};

static struct bpf_struct_ops bpf_weft_balancer_ops = {
	.verifier_ops	= &balancer_verifier_ops,
	.init		= balancer_ops_init,
	.init_member	= balancer_ops_init_member,
	.reg		= balancer_ops_reg,
	.unreg		= balancer_ops_unreg,
	.update		= balancer_ops_update,
	.validate	= balancer_ops_validate,
	.cfi_stubs	= &balancer_cfi_stubs,
	.name		= "weft_balancer_ops",
	.owner		= THIS_MODULE,
};

int weft_balancer_bpf_init(void)
{
	int ret = register_btf_kfunc_id_set(BPF_PROG_TYPE_STRUCT_OPS, &weft_kfunc_set);

	return ret ?: register_bpf_struct_ops(&bpf_weft_balancer_ops, weft_balancer_ops);
}

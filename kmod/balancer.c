// SPDX-License-Identifier: GPL-2.0
/*
 * The policy pointer is read under RCU. Attaching, replacing and detaching are serialised by a
 * mutex; a policy with too many faults is taken out by whoever counts the last one, with a
 * cmpxchg, because that may be any context.
 */
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/string.h>

#include "balancer_private.h"

#define BUILTIN_NAME	"round_robin"

static DEFINE_MUTEX(policy_lock);	/* writing policy, but for a cmpxchg to NULL */
static struct weft_balancer_ops __rcu *policy;
static atomic_t policy_faults;		/* of the policy in force */
static atomic64_t all_faults;
static DEFINE_PER_CPU(u64, picks);
static DEFINE_PER_CPU(u32, turn);	/* of the built-in round robin */
static DEFINE_PER_CPU(u32, asked_cluster);

/*
 * From here to policy_leave() weft_target_stat() knows which cluster is meant. Without
 * preemption: the number belongs to the CPU, and another task must not ask its own question in
 * between. An interrupt may (io_done): it puts back what was there.
 */
static struct weft_balancer_ops *policy_enter(u32 cluster, u32 *outer)
	__acquires(RCU)
{
	rcu_read_lock();
	preempt_disable();
	*outer = __this_cpu_read(asked_cluster);
	__this_cpu_write(asked_cluster, cluster);
	return rcu_dereference(policy);
}

static void policy_leave(u32 outer)
	__releases(RCU)
{
	__this_cpu_write(asked_cluster, outer);
	preempt_enable();
	rcu_read_unlock();
}

u32 weft_balancer_cluster(void)
{
	return this_cpu_read(asked_cluster);
}

/* An illegal answer: the built-in choice is used, and after some of them always. */
static void policy_fault(struct weft_balancer_ops *ops, const char *callback, s32 answer,
			 u32 choices)
{
	atomic64_inc(&all_faults);
	if (atomic_inc_return(&policy_faults) != WEFT_BALANCER_FAULTS_MAX)
		return;
	if (cmpxchg((struct weft_balancer_ops __force **)&policy, ops, NULL) == ops)
		pr_warn("weft: balancer policy %s detached after %d illegal answers (%s: %d of %u choices); using the built-in one\n",
			ops->name, WEFT_BALANCER_FAULTS_MAX, callback, answer, choices);
}

static u32 builtin_pick(u32 choices)
{
	return this_cpu_inc_return(turn) % choices;
}

static u32 checked_pick(struct weft_balancer_ops *ops, const char *callback, s32 answer,
			u32 choices)
{
	if (answer < 0 || answer >= choices) {
		policy_fault(ops, callback, answer, choices);
		return builtin_pick(choices);
	}
	__this_cpu_inc(picks);
	return answer;
}

u32 weft_balancer_pick_read(const struct weft_io *io)
{
	struct weft_balancer_ops *ops;
	u32 choice, outer;

	if (io->nr < 2)
		return 0;
	ops = policy_enter(io->cluster, &outer);
	if (ops && ops->pick_read)
		choice = checked_pick(ops, "pick_read", ops->pick_read(io), io->nr);
	else
		choice = builtin_pick(io->nr);
	policy_leave(outer);
	return choice;
}

u32 weft_balancer_pick_place(const struct weft_place *place)
{
	struct weft_balancer_ops *ops;
	u32 choice, outer;

	if (place->nr < 2)
		return 0;
	ops = policy_enter(place->cluster, &outer);
	if (ops && ops->pick_place)
		choice = checked_pick(ops, "pick_place", ops->pick_place(place), place->nr);
	else
		choice = builtin_pick(place->nr);
	policy_leave(outer);
	return choice;
}

void weft_balancer_io_done(const struct weft_done *done)
{
	u32 outer;
	struct weft_balancer_ops *ops = policy_enter(done->cluster, &outer);

	if (ops && ops->io_done)
		ops->io_done(done);
	policy_leave(outer);
}

static struct weft_balancer_ops *policy_locked(void)
{
	return rcu_dereference_protected(policy, lockdep_is_held(&policy_lock));
}

int weft_balancer_attach(struct weft_balancer_ops *ops)
{
	int ret = -EBUSY;

	mutex_lock(&policy_lock);
	if (!policy_locked()) {
		atomic_set(&policy_faults, 0);
		rcu_assign_pointer(policy, ops);
		ret = 0;
	}
	mutex_unlock(&policy_lock);
	if (!ret)
		pr_info("weft: balancer policy %s attached\n", ops->name);
	return ret;
}

int weft_balancer_replace(struct weft_balancer_ops *ops, struct weft_balancer_ops *old)
{
	int ret = -ENOLINK;

	mutex_lock(&policy_lock);
	if (cmpxchg((struct weft_balancer_ops __force **)&policy, old, ops) == old) {
		atomic_set(&policy_faults, 0);
		ret = 0;
	}
	mutex_unlock(&policy_lock);
	if (!ret)
		pr_info("weft: balancer policy %s replaces %s\n", ops->name, old->name);
	return ret;
}

void weft_balancer_detach(struct weft_balancer_ops *ops)
{
	bool detached;

	mutex_lock(&policy_lock);
	detached = cmpxchg((struct weft_balancer_ops __force **)&policy, ops, NULL) == ops;
	mutex_unlock(&policy_lock);
	if (detached)
		pr_info("weft: balancer policy %s detached\n", ops->name);
}

void weft_balancer_name(char name[WEFT_BALANCER_NAME_LEN])
{
	struct weft_balancer_ops *ops;

	rcu_read_lock();
	ops = rcu_dereference(policy);
	strscpy(name, ops ? ops->name : BUILTIN_NAME, WEFT_BALANCER_NAME_LEN);
	rcu_read_unlock();
}

u64 weft_balancer_faults(void)
{
	return atomic64_read(&all_faults);
}

u64 weft_balancer_picks(void)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(picks, cpu);
	return sum;
}

int weft_balancer_init(void)
{
	return weft_balancer_bpf_init();
}

/* The kernel forgets struct_ops and kfuncs with the module's BTF. An attached policy pins it. */
void weft_balancer_exit(void)
{
	WARN_ON_ONCE(rcu_access_pointer(policy));
}

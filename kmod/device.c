// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/weft: file descriptors. A new one is nothing yet; ATTACH makes it a control fd, QUEUE a
 * queue fd, once and for all. `agent` and `queue` are written once, under the lock, and stay
 * until release.
 */
#include <linux/ctype.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "channel_private.h"
#include "chunk.h"
#include "device.h"
#include "direct.h"
#include "disk.h"
#include "target.h"

#define DEPTH_MIN	64

struct weft_file {
	struct mutex lock;		/* becoming something */
	struct weft_agent *agent;	/* a reference; NULL: nothing yet */
	struct weft_queue *queue;	/* NULL: control fd */
};

static const struct file_operations weft_device_fops;

static int device_open(struct inode *inode, struct file *file)
{
	struct weft_file *wf = kzalloc(sizeof(*wf), GFP_KERNEL);

	if (!wf)
		return -ENOMEM;
	mutex_init(&wf->lock);
	file->private_data = wf;
	return 0;
}

static int device_release(struct inode *inode, struct file *file)
{
	struct weft_file *wf = file->private_data;

	if (wf->agent && wf->queue)
		weft_agent_release_queue(wf->agent);
	else if (wf->agent)
		weft_agent_release_control(wf->agent);
	kfree(wf);
	return 0;
}

/* What the file has become. */
static struct weft_agent *file_agent(struct weft_file *wf)
{
	/* pairs with file_become(): who sees the agent sees the queue */
	return smp_load_acquire(&wf->agent);
}

static void file_become(struct weft_file *wf, struct weft_agent *agent)
{
	/* pairs with file_agent() */
	smp_store_release(&wf->agent, agent);
}

static bool name_is_valid(const char *name, size_t size)
{
	size_t i, len = strnlen(name, size);

	if (!len || len == size || name[0] == '.' || !strcmp(name, "balancer"))
		return false;
	for (i = 0; i < len; i++)
		if (!isalnum(name[i]) && !strchr("._-", name[i]))
			return false;
	return true;
}

static int check_attach(const struct weft_ioc_attach *args)
{
	if (args->version_major != WEFT_VERSION_MAJOR)
		return -EPROTO;
	if (args->flags || args->reserved[0] || args->reserved[1])
		return -EINVAL;
	if (!args->queues || args->queues > WEFT_QUEUES_MAX)
		return -EINVAL;
	if (args->depth && (!is_power_of_2(args->depth) || args->depth < DEPTH_MIN ||
			    args->depth > WEFT_DEPTH_MAX))
		return -EINVAL;
	if (args->pool_bytes && (args->pool_bytes < WEFT_POOL_BYTES_MIN ||
				 args->pool_bytes > WEFT_POOL_BYTES_MAX ||
				 args->pool_bytes % WEFT_IO_BYTES_MAX))
		return -EINVAL;
	return name_is_valid(args->cluster, sizeof(args->cluster)) ? 0 : -EINVAL;
}

static int ioc_attach(struct weft_file *wf, void __user *arg)
{
	struct weft_ioc_attach args;
	struct weft_agent *agent;
	int ret;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	ret = check_attach(&args);
	if (ret)
		return ret;
	agent = weft_agent_attach(&args);
	if (IS_ERR(agent))
		return PTR_ERR(agent);
	if (copy_to_user(arg, &args, sizeof(args))) {
		weft_agent_release_control(agent);
		return -EFAULT;
	}
	file_become(wf, agent);
	return 0;
}

static int ioc_queue(struct weft_file *wf, void __user *arg)
{
	struct weft_ioc_queue args;
	struct weft_agent *agent = NULL;
	struct weft_file *control;
	struct fd fd;
	int ret;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	if (args.reserved)
		return -EINVAL;
	fd = fdget(args.control_fd);
	if (!fd_file(fd))
		return -EBADF;
	if (fd_file(fd)->f_op == &weft_device_fops) {
		control = fd_file(fd)->private_data;
		agent = file_agent(control);
		if (agent && control->queue)
			agent = NULL;
	}
	ret = agent ? weft_agent_open_queue(agent, args.index, &wf->queue) : -EINVAL;
	if (!ret)
		file_become(wf, agent);
	fdput(fd);
	return ret;
}

static int ioc_targets(struct weft_agent *agent, void __user *arg)
{
	struct weft_ioc_targets args;
	struct weft_target_info *infos;
	int ret;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	if (args.reserved || args.count > WEFT_TARGETS_MAX)
		return -EINVAL;
	infos = vmemdup_array_user(u64_to_user_ptr(args.targets), args.count, sizeof(*infos));
	if (IS_ERR(infos))
		return PTR_ERR(infos);
	ret = weft_agent_is_dead(agent) ? -ESHUTDOWN :
		weft_targets_update(agent->channel, infos, args.count);
	kvfree(infos);
	return ret;
}

static int ioc_chunks(struct weft_agent *agent, void __user *arg)
{
	struct weft_ioc_chunks args;
	struct weft_chunk *chunks;
	struct weft_pool *pool;
	int ret = 0;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	if (args.reserved || args.count > WEFT_CHUNKS_PER_CALL)
		return -EINVAL;
	chunks = vmemdup_array_user(u64_to_user_ptr(args.chunks), args.count, sizeof(*chunks));
	if (IS_ERR(chunks))
		return PTR_ERR(chunks);
	pool = weft_pool_enter(agent->channel);
	if (weft_agent_is_dead(agent))
		ret = -ESHUTDOWN;
	else if (pool)		/* without a mount no map is cached */
		ret = weft_chunk_update(pool, chunks, args.count);
	if (pool)
		weft_pool_leave(pool);
	/* a copy that is in sync again may serve what waits */
	if (!ret)
		weft_channel_kick_pool(agent->channel);
	kvfree(chunks);
	return ret;
}

static int ioc_settle(struct weft_agent *agent)
{
	struct weft_pool *pool = weft_pool_enter(agent->channel);
	int ret = 0;

	if (weft_agent_is_dead(agent))
		ret = -ESHUTDOWN;
	else if (pool)		/* without a mount nobody goes by a map */
		ret = weft_pool_settle(pool);
	if (pool)
		weft_pool_leave(pool);
	return ret;
}

static int ioc_set_device(struct weft_agent *agent, void __user *arg)
{
	struct weft_ioc_device args;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	return weft_agent_is_dead(agent) ? -ESHUTDOWN : weft_direct_set(agent->channel, &args);
}

static int ioc_lease(struct weft_agent *agent, void __user *arg)
{
	struct weft_ioc_lease args;

	if (copy_from_user(&args, arg, sizeof(args)))
		return -EFAULT;
	if (args.reserved)
		return -EINVAL;
	if (weft_agent_is_dead(agent))
		return -ESHUTDOWN;
	weft_channel_set_lease(agent->channel, args.until_ns);
	return 0;
}

/* ATTACH and QUEUE: of a file that is nothing yet. */
static int ioc_become(struct weft_file *wf, unsigned int cmd, void __user *arg)
{
	int ret;

	if (mutex_lock_killable(&wf->lock))
		return -EINTR;
	if (wf->agent)
		ret = -EBUSY;
	else if (cmd == WEFT_IOC_ATTACH)
		ret = ioc_attach(wf, arg);
	else
		ret = ioc_queue(wf, arg);
	mutex_unlock(&wf->lock);
	return ret;
}

static long device_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct weft_file *wf = file->private_data;
	struct weft_agent *agent = file_agent(wf);

	switch (cmd) {
	case WEFT_IOC_ATTACH:
	case WEFT_IOC_QUEUE:
		return ioc_become(wf, cmd, (void __user *)arg);
	case WEFT_IOC_COMPLETE:
		if (!agent || !wf->queue)
			return -EINVAL;
		return weft_agent_complete(agent, wf->queue);
	case WEFT_IOC_READY:
		if (!agent || wf->queue)
			return -EINVAL;
		return weft_agent_ready(agent);
	case WEFT_IOC_TARGETS:
		if (!agent || wf->queue)
			return -EINVAL;
		return ioc_targets(agent, (void __user *)arg);
	case WEFT_IOC_CHUNKS:
		if (!agent || wf->queue)
			return -EINVAL;
		return ioc_chunks(agent, (void __user *)arg);
	case WEFT_IOC_SETTLE:
		if (!agent || wf->queue)
			return -EINVAL;
		return ioc_settle(agent);
	case WEFT_IOC_DEVICE:
		if (!agent || wf->queue)
			return -EINVAL;
		return ioc_set_device(agent, (void __user *)arg);
	case WEFT_IOC_LEASE:
		if (!agent || wf->queue)
			return -EINVAL;
		return ioc_lease(agent, (void __user *)arg);
	default:
		return -ENOTTY;
	}
}

static int device_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct weft_file *wf = file->private_data;
	struct weft_agent *agent = file_agent(wf);
	unsigned long bytes = vma->vm_end - vma->vm_start;

	if (!agent || vma->vm_pgoff || !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (weft_agent_is_dead(agent))
		return -ESHUTDOWN;
	if (wf->queue) {
		if (bytes != wf->queue->bytes)
			return -EINVAL;
		vm_flags_set(vma, VM_DONTCOPY);
		return remap_vmalloc_range(vma, wf->queue->ring, 0);
	}
	if (bytes != agent->channel->buffer.bytes)
		return -EINVAL;
	return weft_buffer_mmap(&agent->channel->buffer, vma);
}

static __poll_t device_poll(struct file *file, struct poll_table_struct *wait)
{
	struct weft_file *wf = file->private_data;
	struct weft_agent *agent = file_agent(wf);
	__poll_t mask = 0;

	if (!agent || !wf->queue)
		return EPOLLERR;
	poll_wait(file, &wf->queue->wait, wait);
	if (weft_queue_has_work(wf->queue))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (weft_agent_is_dead(agent))
		mask |= EPOLLHUP;
	return mask;
}

static const struct file_operations weft_device_fops = {
	.owner		= THIS_MODULE,
	.open		= device_open,
	.release	= device_release,
	.unlocked_ioctl	= device_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.mmap		= device_mmap,
	.poll		= device_poll,
	.llseek		= noop_llseek,
};

static struct miscdevice weft_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "weft",
	.fops	= &weft_device_fops,
	.mode	= 0600,
};

int weft_device_init(void)
{
	return misc_register(&weft_device);
}

void weft_device_exit(void)
{
	misc_deregister(&weft_device);
}

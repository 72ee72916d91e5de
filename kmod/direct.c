// SPDX-License-Identifier: GPL-2.0
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/file.h>
#include <linux/ktime.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/slab.h>

#include "channel_private.h"
#include "direct.h"
#include "disk.h"
#include "target.h"
#include "transfer.h"

#define BIOS_RESERVED	64	/* of all pools, when memory is short */

struct weft_device {
	refcount_t refs;		/* target->device, and each request */
	struct rcu_head rcu;
	struct file *file;
	struct block_device *bdev;
	u64 data_offset;
	bool fua;
};

struct direct_io {
	struct weft_transfer *transfer;
	struct weft_device *device;
	u32 copy;
	struct bio bio;			/* last: of bio_set's front pad */
};

static struct bio_set direct_bios;

/* ---- devices ---- */

/* Any context: the file is closed by a worker if need be. */
void weft_direct_put(struct weft_device *device)
{
	if (!refcount_dec_and_test(&device->refs))
		return;
	fput(device->file);
	kfree_rcu(device, rcu);
}

static struct file *open_device(int fd)
{
	struct file *file = fget(fd), *opened;

	if (!file)
		return ERR_PTR(-EBADF);
	if (!S_ISBLK(file_inode(file)->i_mode))
		opened = ERR_PTR(-ENOTBLK);
	else if ((file->f_mode & (FMODE_READ | FMODE_WRITE)) != (FMODE_READ | FMODE_WRITE))
		opened = ERR_PTR(-EBADF);
	else
		/* a file of our own: the agent's is gone when it is */
		opened = bdev_file_open_by_dev(file_inode(file)->i_rdev,
					       BLK_OPEN_READ | BLK_OPEN_WRITE, NULL, NULL);
	fput(file);
	return opened;
}

static struct weft_device *device_open(const struct weft_ioc_device *args)
{
	struct weft_device *device;
	struct file *file = open_device(args->fd);

	if (IS_ERR(file))
		return ERR_CAST(file);
	device = kzalloc(sizeof(*device), GFP_KERNEL);
	if (!device) {
		fput(file);
		return ERR_PTR(-ENOMEM);
	}
	refcount_set(&device->refs, 1);
	device->file = file;
	device->bdev = file_bdev(file);
	device->data_offset = args->data_offset;
	device->fua = args->flags & WEFT_DEVICE_FUA;
	if (args->data_offset % WEFT_BLOCK_BYTES ||
	    args->data_offset >= bdev_nr_bytes(device->bdev) ||
	    bdev_logical_block_size(device->bdev) > WEFT_BLOCK_BYTES) {
		weft_direct_put(device);
		return ERR_PTR(-EINVAL);
	}
	return device;
}

static void target_set_device(struct weft_channel *ch, struct weft_target *target,
			      struct weft_device *device)
{
	struct weft_device *old;

	mutex_lock(&ch->targets_lock);
	old = rcu_replace_pointer(target->device, device, lockdep_is_held(&ch->targets_lock));
	mutex_unlock(&ch->targets_lock);
	if (old)
		weft_direct_put(old);
}

int weft_direct_set(struct weft_channel *ch, const struct weft_ioc_device *args)
{
	struct weft_device *device = NULL;
	struct weft_target *target;

	if (!args->target || args->reserved || args->flags & ~WEFT_DEVICE_FUA || args->fd < -1)
		return -EINVAL;
	target = weft_target_find_or_create(ch, args->target);
	if (IS_ERR(target))
		return PTR_ERR(target);
	if (args->fd >= 0) {
		device = device_open(args);
		if (IS_ERR(device))
			return PTR_ERR(device);
	}
	target_set_device(ch, target, device);
	return 0;
}

void weft_direct_drop_all(struct weft_channel *ch)
{
	struct weft_target *target;
	unsigned long id;

	xa_for_each(&ch->targets, id, target)
		target_set_device(ch, target, NULL);
}

/* Another client may have been let in since, and this one's requests are not refused. */
static bool lease_is_over(const struct weft_channel *ch, const struct weft_target *target)
{
	return READ_ONCE(target->info.flags) & WEFT_TARGET_LEASED &&
	       ktime_get_boottime_ns() >= READ_ONCE(ch->lease_until_ns);
}

struct weft_device *weft_direct_get(const struct weft_channel *ch, struct weft_target *target)
{
	struct weft_device *device;

	if (READ_ONCE(target->info.state) != WEFT_TARGET_UP || lease_is_over(ch, target))
		return NULL;
	rcu_read_lock();
	device = rcu_dereference(target->device);
	if (device && !refcount_inc_not_zero(&device->refs))
		device = NULL;
	rcu_read_unlock();
	return device;
}

/* ---- requests ---- */

static void direct_end_io(struct bio *bio)
{
	struct direct_io *io = container_of(bio, struct direct_io, bio);
	struct weft_transfer *t = io->transfer;
	int error = blk_status_to_errno(bio->bi_status);
	u32 copy = io->copy;

	weft_direct_put(io->device);
	bio_put(bio);
	weft_transfer_direct_done(t, copy, error);
}

void weft_direct_submit(struct weft_device *device, struct weft_transfer *t, u32 copy)
{
	u64 offset = device->data_offset + t->map.chunk.copies[copy].offset + t->offset + t->done;
	struct bio *bio = bio_alloc_clone(device->bdev, t->bio, GFP_NOIO, &direct_bios);
	struct direct_io *io = container_of(bio, struct direct_io, bio);

	io->transfer = t;
	io->device = device;
	io->copy = copy;
	bio_advance(bio, t->done);
	bio->bi_iter.bi_size = weft_transfer_span(t);
	bio->bi_iter.bi_sector = offset >> SECTOR_SHIFT;
	/* who waits for this has been let in; what is below may wait */
	bio->bi_opf &= ~REQ_NOWAIT;
	if (weft_transfer_is_write(t) && device->fua)
		bio->bi_opf |= REQ_FUA;
	bio->bi_end_io = direct_end_io;
	submit_bio_noacct(bio);
}

int weft_direct_init(void)
{
	/* several for one bio: those before may still wait in the list of the thread that submits */
	return bioset_init(&direct_bios, BIOS_RESERVED, offsetof(struct direct_io, bio),
			   BIOSET_NEED_RESCUER);
}

void weft_direct_exit(void)
{
	bioset_exit(&direct_bios);
}

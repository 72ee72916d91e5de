/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Targets whose block device is here: the transfer's data goes to it and comes from it without the
 * agent, in the pages that it is in. A device that is taken back is let go of when the last
 * request to it has ended.
 */
#ifndef _WEFT_DIRECT_H
#define _WEFT_DIRECT_H

#include <linux/types.h>

struct bio;
struct weft_channel;
struct weft_device;
struct weft_ioc_device;
struct weft_target;
struct weft_transfer;

int weft_direct_init(void);
void weft_direct_exit(void);

/* What WEFT_IOC_DEVICE says. May sleep. */
int weft_direct_set(struct weft_channel *ch, const struct weft_ioc_device *args);
/* Takes all devices back. */
void weft_direct_drop_all(struct weft_channel *ch);

void weft_direct_put(struct weft_device *device);	/* any context */
/* The device to use for a copy on the target now, with a reference; NULL: there is none. */
struct weft_device *weft_direct_get(const struct weft_channel *ch, struct weft_target *target);
/*
 * Sends what the transfer sends next to its copy, and gives the reference back. What follows is
 * weft_transfer_direct_done(), from any context, perhaps before this returns.
 */
void weft_direct_submit(struct weft_device *device, struct weft_transfer *t, u32 copy);

#endif

/* SPDX-License-Identifier: GPL-2.0 */
/* /sys/fs/weft: CLUSTER/..., CLUSTER/targets/ID/..., balancer/... */
#ifndef _WEFT_SYSFS_H
#define _WEFT_SYSFS_H

struct weft_channel;
struct weft_target;

int weft_sysfs_init(void);
void weft_sysfs_exit(void);

int weft_sysfs_add_channel(struct weft_channel *ch);
void weft_sysfs_remove_channel(struct weft_channel *ch);	/* after its targets */
int weft_sysfs_add_target(struct weft_channel *ch, struct weft_target *target);
void weft_sysfs_remove_target(struct weft_target *target);

#endif

// SPDX-License-Identifier: GPL-2.0
#include <linux/module.h>

#include "balancer.h"
#include "channel.h"
#include "disk.h"
#include "fs.h"
#include "sysfs.h"

static int __init weft_init(void)
{
	int ret;

	ret = weft_sysfs_init();
	if (ret)
		return ret;
	ret = weft_disk_init();
	if (ret)
		goto sysfs_exit;
	ret = weft_fs_init();
	if (ret)
		goto disk_exit;
	ret = weft_balancer_init();
	if (ret)
		goto fs_exit;
	/* last: /dev/weft is how the module comes to life */
	ret = weft_channel_init();
	if (ret)
		goto balancer_exit;
	return 0;

balancer_exit:
	weft_balancer_exit();
fs_exit:
	weft_fs_exit();
disk_exit:
	weft_disk_exit();
sysfs_exit:
	weft_sysfs_exit();
	return ret;
}

static void __exit weft_exit(void)
{
	weft_channel_exit();
	weft_balancer_exit();
	weft_fs_exit();
	weft_disk_exit();
	weft_sysfs_exit();
}

module_init(weft_init);
module_exit(weft_exit);

MODULE_DESCRIPTION("weftfs: a shared file system for RDMA clusters");
MODULE_LICENSE("GPL");
MODULE_ALIAS_FS("weft");

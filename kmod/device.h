/* SPDX-License-Identifier: GPL-2.0 */
/* The character device of the channel. */
#ifndef _WEFT_DEVICE_H
#define _WEFT_DEVICE_H

int weft_device_init(void);
void weft_device_exit(void);

#endif

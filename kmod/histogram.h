/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How often a latency was met: buckets that grow by about a quarter each, so that a percentile is told
 * within 25 %. For the counters of a target, at a cost of one atomic increment a request. Any context.
 */
#ifndef _WEFT_HISTOGRAM_H
#define _WEFT_HISTOGRAM_H

#include <linux/atomic.h>
#include <linux/types.h>

#define WEFT_HISTOGRAM_SHIFT	2	/* log2 of the buckets in each doubling */
#define WEFT_HISTOGRAM_MIN	12	/* log2 of the ns where the first doubling begins (4 us) */
#define WEFT_HISTOGRAM_MAX	34	/* log2 of the ns where the last one ends (17 s) */
/* the first one holds what is shorter, the last one what is longer */
#define WEFT_HISTOGRAM_BUCKETS \
	(((WEFT_HISTOGRAM_MAX - WEFT_HISTOGRAM_MIN) << WEFT_HISTOGRAM_SHIFT) + 2)

struct weft_histogram {
	atomic64_t buckets[WEFT_HISTOGRAM_BUCKETS];
};

void weft_histogram_add(struct weft_histogram *histogram, u64 ns);
/* One line for each bucket that is not empty: the ns where it ends (of the last: 0), its count. */
ssize_t weft_histogram_show(struct weft_histogram *histogram, char *buf);

#endif

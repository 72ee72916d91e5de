// SPDX-License-Identifier: GPL-2.0
#include <linux/log2.h>
#include <linux/sysfs.h>

#include "histogram.h"

#define PARTS	BIT(WEFT_HISTOGRAM_SHIFT)

static u32 bucket_of(u64 ns)
{
	u32 log;

	if (ns < BIT_ULL(WEFT_HISTOGRAM_MIN))
		return 0;
	if (ns >= BIT_ULL(WEFT_HISTOGRAM_MAX))
		return WEFT_HISTOGRAM_BUCKETS - 1;
	log = ilog2(ns);
	return 1 + ((log - WEFT_HISTOGRAM_MIN) << WEFT_HISTOGRAM_SHIFT) +
	       ((ns >> (log - WEFT_HISTOGRAM_SHIFT)) & (PARTS - 1));
}

static u64 bucket_end_ns(u32 bucket)
{
	u32 log = WEFT_HISTOGRAM_MIN + (bucket >> WEFT_HISTOGRAM_SHIFT);

	if (bucket == WEFT_HISTOGRAM_BUCKETS - 1)
		return 0;
	return (PARTS + (bucket & (PARTS - 1))) << (log - WEFT_HISTOGRAM_SHIFT);
}

void weft_histogram_add(struct weft_histogram *histogram, u64 ns)
{
	atomic64_inc(&histogram->buckets[bucket_of(ns)]);
}

ssize_t weft_histogram_show(struct weft_histogram *histogram, char *buf)
{
	ssize_t length = 0;
	u32 i;

	for (i = 0; i < WEFT_HISTOGRAM_BUCKETS; i++) {
		s64 count = atomic64_read(&histogram->buckets[i]);

		if (count)
			length += sysfs_emit_at(buf, length, "%llu %lld\n", bucket_end_ns(i), count);
	}
	return length;
}

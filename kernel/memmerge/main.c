// SPDX-License-Identifier: GPL-2.0-only
/*
 * memmerge - merge identical anonymous pages
 *
 * Rebuilds, on a current kernel, the memory merging driver that Izik Eidus
 * posted in January 2008. See internal.h for the structure and lock order.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>

#include "internal.h"

static int __init memmerge_init(void)
{
	int err;

	mmg_hash_start();
	err = mmg_hold_start();
	if (err)
		return err;

	err = mmg_shared_start();
	if (err)
		goto err_hold;

	err = mmg_region_start();
	if (err)
		goto err_shared;

	err = mmg_scanner_start();
	if (err)
		goto err_region;

	err = mmg_sysfs_create();
	if (err)
		goto err_scanner;

	err = mmg_device_register();
	if (err)
		goto err_sysfs;

	merge_figures_set(mmg_domain_figures);
	return 0;

err_sysfs:
	mmg_sysfs_remove();
err_scanner:
	mmg_scanner_stop();
err_region:
	mmg_region_stop();
err_shared:
	mmg_shared_stop();
err_hold:
	mmg_hold_stop();
	return err;
}

/*
 * An open domain, and a closed one with a shared page, hold a reference to the
 * module: no page is left about which mm could ask it, see shared.c, and
 * nothing to undo but what init did.
 */
static void __exit memmerge_exit(void)
{
	merge_figures_set(NULL);
	mmg_device_unregister();
	mmg_sysfs_remove();
	mmg_scanner_stop();
	mmg_region_stop();
	mmg_shared_stop();
	mmg_hold_stop();
}

module_init(memmerge_init);
module_exit(memmerge_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Merge identical anonymous pages");
MODULE_AUTHOR("Mergelab");

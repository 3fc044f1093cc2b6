/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bugs to be planted on purpose, by the build option `plant` or a test that builds the library again: the tests that
 * look for such bugs must find them. Each macro is empty unless its bug was asked for, and stands where the bug would.
 */
#ifndef SLUICE_LIB_PLANT_H
#define SLUICE_LIB_PLANT_H

/* Says for a moment that all messages may be overwritten, also those that are not done with. */
#ifdef SLUICE_PLANT_EARLY_TAIL
#define PLANT_EARLY_TAIL(writer) lane_writer_announce_tail((writer), (writer)->head)
#else
#define PLANT_EARLY_TAIL(writer) ((void)0)
#endif

/* Takes a message first and says who has it second. */
#ifdef SLUICE_PLANT_LATE_OWNER
#define PLANT_LATE_OWNER(word, seen, held)                                                                             \
	do {                                                                                                           \
		uint64_t nameless = (held) & ((UINT64_C(1) << 40) - 1);                                                \
		if (atomic_swap_exact((word), (seen), nameless))                                                       \
			(seen) = nameless;                                                                             \
	} while (0)
#else
#define PLANT_LATE_OWNER(word, seen, held) ((void)0)
#endif

/* Releases without looking whose the message is. */
#ifdef SLUICE_PLANT_PLAIN_RELEASE
#define PLANT_PLAIN_RELEASE(word, held)                                                                                \
	do {                                                                                                           \
		atomic_store_relaxed((word), claims_released(held)); /* relaxed: wrong on purpose */                   \
		return true;                                                                                           \
	} while (0)
#else
#define PLANT_PLAIN_RELEASE(word, held) ((void)0)
#endif

/* Where a bug of the two above is planted, claims go one by one. */
#if defined(SLUICE_PLANT_LATE_OWNER) || defined(SLUICE_PLANT_PLAIN_RELEASE)
#define PLANT_SINGLY() return false
#else
#define PLANT_SINGLY() ((void)0)
#endif

#endif

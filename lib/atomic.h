/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Atomic access to words that other processes also touch. The only place that names compiler builtins.
 *
 * Each access stronger than relaxed carries a label at its call site ("P1: publish, pairs with C1 in lane_reader_look")
 * and names its partner there; docs/protocol.md tabulates the pairs, and tests/protocol compares. Shared words are 32
 * or 64 bits and naturally aligned, so everything here is lock-free on the machines that Sluice runs on and works
 * between address spaces.
 */
#ifndef SLUICE_LIB_ATOMIC_H
#define SLUICE_LIB_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#define atomic_load_relaxed(word)         __atomic_load_n((word), __ATOMIC_RELAXED)
#define atomic_load_acquire(word)         __atomic_load_n((word), __ATOMIC_ACQUIRE)
#define atomic_store_relaxed(word, value) __atomic_store_n((word), (value), __ATOMIC_RELAXED)
#define atomic_store_release(word, value) __atomic_store_n((word), (value), __ATOMIC_RELEASE)

/* Read-modify-write in the single total order; together with atomic_fence_after_rmw a full fence. */
#define atomic_exchange_full(word, value) __atomic_exchange_n((word), (value), __ATOMIC_SEQ_CST)
#define atomic_add_full(word, value)      __atomic_fetch_add((word), (value), __ATOMIC_SEQ_CST)
#define atomic_or_full(word, value)       __atomic_fetch_or((word), (value), __ATOMIC_SEQ_CST)
#define atomic_and_full(word, value)      __atomic_fetch_and((word), (value), __ATOMIC_SEQ_CST)
#define atomic_add_relaxed(word, value)   __atomic_fetch_add((word), (value), __ATOMIC_RELAXED)

/* Stores `desired` if the word is exactly `expected`; false, and nothing stored, if it is not. */
static inline bool atomic_swap_exact(uint64_t *word, uint64_t expected, uint64_t desired)
{
	return __atomic_compare_exchange_n(word, &expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

#if defined(__SANITIZE_THREAD__)
#define ATOMIC_CHECKED_BY_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ATOMIC_CHECKED_BY_THREAD_SANITIZER 1
#endif
#endif

/*
 * atomic_swap_exact of two neighbouring words at once, the first aligned to 16 bytes: both or none. False, and nothing
 * stored, also on machines and in builds that cannot: callers then swap one by one. (So it looks to the static analyzer,
 * which takes what an instruction in assembly writes for garbage.)
 */
static inline bool atomic_swap_pair_exact(
	uint64_t *words, uint64_t expected0, uint64_t expected1, uint64_t desired0, uint64_t desired1)
{
#if defined(__x86_64__) && !defined(ATOMIC_CHECKED_BY_THREAD_SANITIZER) && !defined(__clang_analyzer__)
	/* Not the builtin, which calls a library that takes locks of this process alone. It costs what one word costs. */
	bool swapped;
	__asm__ __volatile__("lock; cmpxchg16b %1"
			     : "=@ccz"(swapped), "+m"(*(uint64_t(*)[2])words), "+a"(expected0), "+d"(expected1)
			     : "b"(desired0), "c"(desired1)
			     : "memory");
	return swapped;
#else
	(void)words, (void)expected0, (void)expected1, (void)desired0, (void)desired1;
	return false;
#endif
}

/* Orders every access before it against every access after it, also a store against a later load. */
static inline void atomic_fence_full(void)
{
#if defined(__x86_64__) && !defined(ATOMIC_CHECKED_BY_THREAD_SANITIZER)
	/* A locked operation on the stack costs a third of mfence and orders just the same for write-back memory. */
	__asm__ __volatile__("lock; orq $0, (%%rsp)" ::: "memory", "cc");
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* A full fence for callers whose last shared access was a read-modify-write above: on x86 that was one already. */
static inline void atomic_fence_after_rmw(void)
{
#if defined(__x86_64__)
	__asm__ __volatile__("" ::: "memory");
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* Asks for the cache line of `address`, which will be written to soon; changes nothing that anybody could see. */
static inline void atomic_prefetch_write(const void *address)
{
#if defined(__x86_64__)
	/* Compilers leave it to a prefetch for reading on the oldest machines of this kind, on which it does nothing. */
	__asm__ __volatile__("prefetchw %0" ::"m"(*(const char *)address));
#else
	__builtin_prefetch(address, 1);
#endif
}

/* Tells the core that it spins. */
static inline void atomic_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("isb" ::: "memory");
#endif
}

#endif

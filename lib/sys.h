/* SPDX-License-Identifier: Apache-2.0 */
/* Thin faces of system calls: futexes, open-file-description locks, randomness, small files, what the process is called. */
#ifndef SLUICE_LIB_SYS_H
#define SLUICE_LIB_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Sleeps while `*word` is `expected`, at most `timeout_ns`. Returns 0 when woken or when the word was different,
 * -ETIMEDOUT or -EINTR. May return early for no reason. Shared futexes: the word may lie in any mapping of the same
 * object.
 */
int sys_futex_wait(const uint32_t *word, uint32_t expected, uint64_t timeout_ns);

/* Wakes up to `count` sleepers on `word`; returns how many really woke. */
int sys_futex_wake(uint32_t *word, int count);

/*
 * Write locks on one byte of a file, owned by the open file description: gone when the last descriptor made from that
 * open() is closed, however its process ends. sys_lock_byte returns 0, -EAGAIN when another has it, or another errno.
 */
int sys_lock_byte(int fd, uint64_t offset);
int sys_unlock_byte(int fd, uint64_t offset);

/* 1 if a description other than `fd`'s has that byte locked, 0 if none, or a negative errno. */
int sys_byte_is_locked(int fd, uint64_t offset);

/* A random number that is never 0. */
uint64_t sys_random(void);

/* Copies the process's short program name, cut to `bytes` and always NUL-terminated. */
void sys_program_name(char *ret_name, size_t bytes);

/* Number of CPUs that the machine has switched on, at least 1. */
int sys_cpus_online(void);

/* Number of CPUs that this thread may run on, at least 1. */
int sys_cpu_count(void);

/* The number that a file of /proc or /sys begins with. Returns 0, -ENODATA (none) or another errno. */
int sys_read_number(const char *path, int64_t *ret_number);

/* Sleeps for real; a signal ends it early. For backing off a lock whose holder cannot tell when it lets go. */
void sys_pause_ns(uint64_t duration_ns);

#endif

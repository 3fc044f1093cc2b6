/* SPDX-License-Identifier: Apache-2.0 */
/* A table of text whose columns are as wide as their widest cell. */
#ifndef SLUICE_TOOL_TABLE_H
#define SLUICE_TOOL_TABLE_H

#include <stddef.h>
#include <stdio.h>

struct table;

/* `alignment` has a letter a column, 'l' or 'r'. All functions end the program when memory is out. */
struct table *table_new(const char *alignment);

/* Fills the first row with as many names as there are columns. */
void table_headings(struct table *table, const char *const *names);

/* Fills the next cell, row by row from the left. */
void table_add(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Rows that are full, headings not counted. */
size_t table_rows(const struct table *table);

/* Prints headings and full rows, or nothing at all if there is no row, and frees the table. */
void table_print(struct table *table, FILE *file);

#endif

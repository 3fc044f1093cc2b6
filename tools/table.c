/* SPDX-License-Identifier: Apache-2.0 */
/* A table of text whose columns are as wide as their widest cell. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "table.h"

#define GAP 2

struct table {
	const char *alignment;
	size_t columns;
	size_t count; /* cells */
	char **cells;
};

struct table *table_new(const char *alignment)
{
	struct table *table = need_memory(calloc(1, sizeof *table));

	table->alignment = alignment;
	table->columns = strlen(alignment);
	return table;
}

void table_add(struct table *table, const char *format, ...)
{
	char *cell = NULL;
	va_list arguments;

	va_start(arguments, format);
	int length = vasprintf(&cell, format, arguments);
	va_end(arguments);
	need_memory(length < 0 ? NULL : cell);
	table->cells = need_memory(realloc(table->cells, (table->count + 1) * sizeof *table->cells));
	table->cells[table->count++] = cell;
}

void table_headings(struct table *table, const char *const *names)
{
	for (size_t i = 0; i < table->columns; i++)
		table_add(table, "%s", names[i]);
}

/* Columns on the screen: bytes that begin a character. */
static int width(const char *cell)
{
	int columns = 0;

	for (; *cell; cell++)
		columns += (*cell & 0xc0) != 0x80;
	return columns;
}

static int column_width(const struct table *table, size_t column)
{
	int widest = 0;

	for (size_t cell = column; cell < table->count; cell += table->columns)
		if (width(table->cells[cell]) > widest)
			widest = width(table->cells[cell]);
	return widest;
}

static void print_row(const struct table *table, FILE *file, size_t row)
{
	int blanks = 0;

	for (size_t column = 0; column < table->columns; column++) {
		const char *cell = table->cells[row * table->columns + column];
		int padding = column_width(table, column) - width(cell);
		bool right = table->alignment[column] == 'r';
		/* Blanks are held back until something follows: no line ends in them. */
		blanks += right ? padding : 0;
		if (*cell)
			fprintf(file, "%*s%s", blanks, "", cell);
		blanks = (*cell ? 0 : blanks) + (right ? 0 : padding) + GAP;
	}
	fputc('\n', file);
}

size_t table_rows(const struct table *table)
{
	size_t rows = table->count / table->columns;
	return rows ? rows - 1 : 0;
}

void table_print(struct table *table, FILE *file)
{
	for (size_t row = 0; table_rows(table) && row <= table_rows(table); row++)
		print_row(table, file, row);
	for (size_t cell = 0; cell < table->count; cell++)
		free(table->cells[cell]);
	free(table->cells);
	free(table);
}

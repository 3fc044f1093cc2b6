/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a text file, finds lines in it, and prints beginnings of texts. */
#include "excerpt.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 70
#define BLOCK   (1 << 20)

static int read_all(FILE *stream, struct excerpt_file *file)
{
	while (!feof(stream)) {
		char *grown = realloc(file->text, file->bytes + BLOCK);

		if (grown == NULL)
			return -ENOMEM;
		file->text = grown;
		file->bytes += fread(grown + file->bytes, 1, BLOCK, stream);
		if (ferror(stream))
			return -EIO;
	}
	return 0;
}

int excerpt_open(const char *path, struct excerpt_file *ret_file)
{
	struct excerpt_file file = {0};
	FILE *stream = fopen(path, "re");
	int result;

	if (stream == NULL)
		return -errno;
	result = read_all(stream, &file);
	fclose(stream);
	if (result < 0)
		excerpt_close(&file);
	else
		*ret_file = file;
	return result;
}

void excerpt_close(struct excerpt_file *file)
{
	free(file->text);
	*file = (struct excerpt_file){0};
}

static bool is_blank(char byte)
{
	return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* Bytes of the printable character at `text`, or 0 if there is none. */
static size_t printable_bytes(const char *text, size_t bytes)
{
	unsigned char first = (unsigned char)text[0];
	size_t length = first < 0x80   ? 1
			: first < 0xc2 ? 0
			: first < 0xe0 ? 2
			: first < 0xf0 ? 3
			: first < 0xf5 ? 4
				       : 0;

	if (length > bytes || first < ' ' || first == 0x7f)
		return 0;
	for (size_t i = 1; i < length; i++) {
		if (((unsigned char)text[i] & 0xc0) != 0x80)
			return 0;
	}
	/* U+0080 to U+009F are control characters to a terminal. */
	return first == 0xc2 && (unsigned char)text[1] < 0xa0 ? 0 : length;
}

static void print_line(const char *text, size_t bytes, FILE *output)
{
	unsigned columns = 0;
	bool gap = false;

	for (size_t length; bytes > 0; text += length, bytes -= length) {
		length = is_blank(*text) ? 1 : printable_bytes(text, bytes);
		if (is_blank(*text)) {
			gap = columns > 0;
			continue;
		}
		columns += 1u + gap;
		if (columns > COLUMNS)
			break;
		if (gap)
			fputc(' ', output);
		gap = false;
		if (length > 0)
			fwrite(text, 1, length, output);
		else
			fputc('?', output);
		length = length == 0 ? 1 : length;
	}
	fputs(bytes > 0 && columns > COLUMNS ? "...\n" : "\n", output);
}

static size_t line_number(const struct excerpt_file *file, size_t offset)
{
	size_t line = 1;

	for (size_t i = 0; i < offset; i++)
		line += file->text[i] == '\n';
	return line;
}

void excerpt_print(const struct excerpt_file *file, int64_t offset, int64_t bytes, FILE *output)
{
	size_t at = (size_t)offset;
	size_t left = (size_t)bytes;

	/* The span came from another process, and the file may have changed since. */
	if (offset < 0 || bytes < 0 || at > file->bytes || left > file->bytes - at) {
		fprintf(output, "(this text is no longer in the file)\n");
		return;
	}
	for (; left > 0 && is_blank(file->text[at]); left--)
		at++;
	fprintf(output, "line %5zu  ", line_number(file, at));
	print_line(file->text + at, left, output);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Writing: complaints, wrapped text, JSON. */
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "tool.h"

#define LINE_COLUMNS 100

void complain(const char *format, ...)
{
	va_list arguments;

	fflush(stdout);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
}

int fail(const struct request *request, int code, const char *message)
{
	if (request->json) {
		struct json_object *document = json_object_need();
		json_put(document, "error", json_error(code, message));
		json_print(document);
	}
	complain("sluice %s: %s", request->verb->name, message);
	return EXIT_FAILED;
}

void *need_memory(void *pointer)
{
	if (!pointer) {
		complain("sluice: out of memory");
		exit(EXIT_FAILED);
	}
	return pointer;
}

void print_wrapped(FILE *file, int indent, const char *text)
{
	fprintf(file, "%*s", indent, "");
	print_wrapped_after(file, indent, text);
}

void print_wrapped_after(FILE *file, int indent, const char *text)
{
	int column = indent;

	while (*text) {
		int length = (int)strcspn(text, " \n");
		if (column > indent && column + 1 + length > LINE_COLUMNS) {
			fprintf(file, "\n%*s", indent, "");
			column = indent;
		}
		column += fprintf(file, "%s%.*s", column > indent ? " " : "", length, text);
		text += length;
		if (*text == '\n' && text[1]) {
			fprintf(file, "\n%*s", indent, "");
			column = indent;
		}
		text += *text != '\0';
	}
	fputc('\n', file);
}

/* Bytes of the UTF-8 character at `text`, 0 if it is none or one that controls a terminal. */
static size_t utf8_length(const unsigned char *text, size_t limit)
{
	static const uint32_t least[] = {0, 0x20, 0xa0, 0x800, 0x10000};
	size_t length = text[0] < 0x80       ? 1
			: text[0] >> 5 == 6  ? 2
			: text[0] >> 4 == 14 ? 3
			: text[0] >> 3 == 30 ? 4
					     : 0;

	if (!length || length > limit)
		return 0;
	uint32_t point = length == 1 ? text[0] : text[0] & (0x7fU >> length);
	for (size_t i = 1; i < length; i++) {
		if (text[i] >> 6 != 2)
			return 0;
		point = point << 6 | (text[i] & 0x3fU);
	}
	bool surrogate = point >= 0xd800 && point < 0xe000;
	return point < least[length] || point == 0x7f || surrogate || point > 0x10ffff ? 0 : length;
}

const char *clean_text(char *buffer, size_t size, const char *text, size_t limit)
{
	size_t used = 0, at = 0, end = strnlen(text, limit);

	while (at < end && used + 5 <= size) {
		size_t length = utf8_length((const unsigned char *)text + at, end - at);
		if (length)
			memcpy(buffer + used, text + at, length);
		else
			buffer[used] = '?';
		used += length ? length : 1;
		at += length ? length : 1;
	}
	buffer[used] = '\0';
	return buffer;
}

struct json_object *json_object_need(void)
{
	return need_memory(json_object_new_object());
}

struct json_object *json_array_need(void)
{
	return need_memory(json_object_new_array());
}

void json_put(struct json_object *object, const char *key, struct json_object *value)
{
	need_memory(json_object_object_add(object, key, value) ? NULL : object);
}

void json_append(struct json_object *array, struct json_object *value)
{
	need_memory(json_object_array_add(array, value) ? NULL : array);
}

void json_put_text(struct json_object *object, const char *key, const char *text)
{
	if (!text) {
		json_put(object, key, NULL);
		return;
	}
	/* What json-c writes is as good UTF-8 as it was given. */
	size_t size = strlen(text) + 5;
	char *clean = need_memory(malloc(size));
	json_put(object, key, need_memory(json_object_new_string(clean_text(clean, size, text, size))));
	free(clean);
}

void json_put_uint(struct json_object *object, const char *key, uint64_t value)
{
	json_put(object, key, need_memory(json_object_new_uint64(value)));
}

void json_put_bool(struct json_object *object, const char *key, bool value)
{
	json_put(object, key, need_memory(json_object_new_boolean(value)));
}

struct json_object *json_error(int code, const char *message)
{
	struct json_object *error = json_object_need();

	json_put(error, "errno", need_memory(json_object_new_int(-code)));
	json_put_text(error, "name", strerrorname_np(-code));
	json_put_text(error, "message", message);
	return error;
}

void json_print(struct json_object *document)
{
	const char *text = json_object_to_json_string_ext(
		document, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE);

	puts(need_memory((void *)(uintptr_t)text));
	json_object_put(document);
}

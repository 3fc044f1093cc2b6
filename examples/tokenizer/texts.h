/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting a file into texts of a size that a model takes: paragraphs, joined while short and cut where too long. */
#ifndef EXAMPLES_TEXTS_H
#define EXAMPLES_TEXTS_H

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

/* Where a text lies in its file. */
struct text_span {
	std::size_t offset;
	std::size_t bytes;
};

/* Reads all of `path`. Throws std::system_error. */
std::string read_file(const std::string &path);

/*
 * Cuts `file` into texts of at most `most_bytes`. A text ends at a blank line once it holds half of that, so that a
 * heading stays with what it heads, or before a line that would make it too long. A line longer than that by itself is cut
 * at a blank, or between two characters if it has none. Texts of nothing but white space are left out.
 */
std::vector<text_span> split_texts(std::string_view file, std::size_t most_bytes);

/* Offset of the first byte that is not part of valid UTF-8, or npos. */
std::size_t find_invalid_utf8(std::string_view text);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a file and cutting it into texts. */
#include "texts.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace
{

constexpr std::string_view blanks = " \t\r\n\f\v";

struct descriptor {
	int fd;

	explicit descriptor(const std::string &path) : fd(open(path.c_str(), O_RDONLY | O_CLOEXEC))
	{
		if (fd < 0)
			throw std::system_error(errno, std::generic_category());
	}
	~descriptor()
	{
		close(fd);
	}
	descriptor(const descriptor &) = delete;
	descriptor &operator=(const descriptor &) = delete;
};

bool is_blank(std::string_view text)
{
	return text.find_first_not_of(blanks) == text.npos;
}

bool is_continuation(char byte)
{
	return (static_cast<unsigned char>(byte) & 0xc0) == 0x80;
}

/* How much of a line that is too long goes into one text: up to the last blank that fits, else whole characters. */
std::size_t cut_line(std::string_view line, std::size_t most_bytes)
{
	std::size_t blank = line.substr(0, most_bytes).find_last_of(blanks);
	std::size_t cut = most_bytes;

	if (blank != line.npos && blank > 0)
		return blank + 1;
	while (cut > most_bytes - 4 && cut > 1 && is_continuation(line[cut]))
		cut--;
	return cut;
}

class splitter
{
      public:
	splitter(std::string_view file, std::size_t most_bytes) : file_(file), most_(most_bytes)
	{
	}

	std::vector<text_span> run()
	{
		while (at_ < file_.size())
			take_line(next_line());
		finish();
		return std::move(texts_);
	}

      private:
	std::string_view file_;
	std::size_t most_;
	std::size_t begin_ = 0; /* of the text at work */
	std::size_t at_ = 0;    /* its end so far */
	std::vector<text_span> texts_;

	/* With its newline; the last line may have none. */
	std::string_view next_line() const
	{
		std::size_t end = file_.find('\n', at_);

		return file_.substr(at_, end == file_.npos ? end : end + 1 - at_);
	}

	void take_line(std::string_view line)
	{
		if (at_ - begin_ + line.size() > most_)
			finish();
		if (line.size() > most_)
			line = line.substr(0, cut_line(line, most_));
		at_ += line.size();
		if (is_blank(line) && at_ - begin_ >= most_ / 2)
			finish();
	}

	void finish()
	{
		if (!is_blank(file_.substr(begin_, at_ - begin_)))
			texts_.push_back({begin_, at_ - begin_});
		begin_ = at_;
	}
};

/* Bytes of the character that begins `text`, or 0 if it is not well formed (Unicode standard, table 3-7). */
std::size_t character_bytes(std::string_view text)
{
	auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
	unsigned first = byte(0);
	std::size_t bytes = first < 0x80   ? 1
			    : first < 0xc2 ? 0
			    : first < 0xe0 ? 2
			    : first < 0xf0 ? 3
			    : first < 0xf5 ? 4
					   : 0;

	if (bytes > text.size())
		return 0;
	for (std::size_t i = 1; i < bytes; i++) {
		if (!is_continuation(text[i]))
			return 0;
	}
	if ((first == 0xe0 && byte(1) < 0xa0) || (first == 0xed && byte(1) > 0x9f) ||
		(first == 0xf0 && byte(1) < 0x90) || (first == 0xf4 && byte(1) > 0x8f))
		return 0;
	return bytes;
}

} // namespace

std::string read_file(const std::string &path)
{
	descriptor file(path);
	std::string text;
	std::string block(1 << 20, '\0');
	ssize_t got;

	/* read, not fstat and mmap: a pipe will do, and a file that shrinks under our eyes does no harm. */
	while ((got = read(file.fd, block.data(), block.size())) != 0) {
		if (got > 0)
			text.append(block, 0, static_cast<std::size_t>(got));
		else if (errno != EINTR)
			throw std::system_error(errno, std::generic_category());
	}
	return text;
}

std::vector<text_span> split_texts(std::string_view file, std::size_t most_bytes)
{
	return splitter(file, most_bytes).run();
}

std::size_t find_invalid_utf8(std::string_view text)
{
	std::size_t at = 0;

	while (at < text.size()) {
		std::size_t bytes = character_bytes(text.substr(at));

		if (bytes == 0)
			return at;
		at += bytes;
	}
	return text.npos;
}

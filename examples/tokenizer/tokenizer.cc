/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokenizer: reads a text file, tokenizes it with SentencePiece and publishes token batches on a channel (common/batch.h
 * says what they hold). Several such processes share one file: process i of K takes the batches i, i + K, i + 2 K ...
 *
 * Tokens go into the lane once and are never copied again. SentencePiece hands tokens back in a vector of its own, so a
 * batch is tokenized first and only then reserved: the reservation is held just while ids are laid into place and padded.
 * "Fill" in the waterfall is therefore that placing, with the checksums; tokenizing is timed by itself.
 */
#include "texts.h"

#include "../common/batch.h"
#include "../common/process.h"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <argp.h>
#include <sentencepiece_processor.h>
#include <sluice/sluice.h>

namespace
{

struct settings {
	const char *channel = "tokens";
	const char *model = nullptr;
	const char *file = nullptr;
	std::uint64_t part = 0;
	std::uint64_t parts = 1;
	std::uint64_t rows = 32;
	std::uint64_t seq = 256;
	std::uint64_t repeat = 1;
	std::uint64_t depth = 16;
	bool count_only = false;
};

/* Left through an exception that carries the sentence to print. */
struct failure : std::runtime_error {
	using std::runtime_error::runtime_error;
};

/* A text of so many bytes a token rarely has more than `seq` tokens; what still does is cut and counted. */
constexpr std::size_t bytes_per_token = 3;

/* Gathers ids of one batch, as long as they are private to this process. */
struct private_batch {
	std::vector<std::vector<int>> ids;
	std::vector<std::size_t> texts;
	std::uint64_t begin_ns = 0;
	std::uint64_t end_ns = 0;
};

struct totals {
	std::uint64_t batches = 0;
	std::uint64_t texts = 0;
	std::uint64_t tokens = 0;
	std::uint64_t cut = 0;
	std::uint64_t checksum = 0;
};

void check(int result, const char *what)
{
	if (result < 0)
		throw failure(std::string(what) + ": " + sluice_strerror(result));
}

struct producer_closer {
	void operator()(sluice_producer *producer) const
	{
		sluice_producer_close(producer);
	}
};

using producer_handle = std::unique_ptr<sluice_producer, producer_closer>;

producer_handle open_producer(const settings &settings)
{
	sluice_producer_options options{};
	sluice_producer *producer;
	std::uint64_t bytes =
		batch_bytes(static_cast<std::int64_t>(settings.rows), static_cast<std::int64_t>(settings.seq));

	/* Room for `depth` batches and no more: when the reader falls behind, tokenizers wait rather than queue for seconds. */
	options.size = sizeof options;
	options.lane_bytes = std::max<std::uint64_t>(settings.depth * bytes, 4096);
	options.depth = static_cast<std::uint32_t>(settings.depth);
	options.sample_rate_hz = SLUICE_STAMP_ALL;
	check(sluice_producer_open(settings.channel, &options, &producer),
		("cannot open channel '" + std::string(settings.channel) + "'").c_str());
	return producer_handle(producer);
}

/*
 * Waits for whoever will read. The last one to leave an empty channel takes it away, and that could be a tokenizer that had
 * nothing to do and came first: the reader would then wait for it in vain. Returns false if the program was told to stop.
 */
bool wait_for_reader(sluice_producer *producer)
{
	int result;

	do {
		result = sluice_producer_wait(producer, 1, PROCESS_PATIENCE_NS);
	} while ((result == -ETIMEDOUT || result == -EINTR) && process_stopped() == 0);
	if (result == -ETIMEDOUT || result == -EINTR)
		return false;
	check(result, "cannot wait for a reader");
	return true;
}

/* Waits for room in the lane; nullptr if a signal told the program to stop. */
sluice_message *reserve(sluice_producer *producer, const sluice_tensor_spec *specs)
{
	sluice_message *message;
	int result;

	do {
		result = sluice_reserve(producer, specs, BATCH_TENSORS, PROCESS_PATIENCE_NS, &message);
	} while ((result == -ETIMEDOUT || result == -EINTR) && process_stopped() == 0);
	if (result == -ETIMEDOUT || result == -EINTR)
		return nullptr;
	check(result, "cannot reserve a batch");
	return message;
}

template <typename element> element *tensor(sluice_message *message, batch_tensor index)
{
	return static_cast<element *>(sluice_data(message, index));
}

class tokenizer
{
      public:
	tokenizer(const settings &settings, const std::string &file)
	    : settings_(settings), file_(file), texts_(split_texts(file, settings.seq * bytes_per_token))
	{
		batches_ = (texts_.size() + settings.rows - 1) / settings.rows;
	}

	void run()
	{
		load_model();
		producer_ = open_producer(settings_);
		if (!wait_for_reader(producer_.get()))
			return;
		for (std::uint64_t n = settings_.part; n < batches_ * settings_.repeat; n += settings_.parts) {
			tokenize(n % batches_);
			if (process_stopped() != 0 || !publish(n))
				return;
		}
	}

	std::size_t texts() const
	{
		return texts_.size();
	}

	std::uint64_t batches() const
	{
		return batches_;
	}

	const totals &sums() const
	{
		return totals_;
	}

      private:
	const settings &settings_;
	const std::string &file_;
	std::vector<text_span> texts_;
	std::uint64_t batches_; /* of one pass over the file */
	sentencepiece::SentencePieceProcessor model_;
	producer_handle producer_;
	private_batch batch_;
	totals totals_;

	void load_model()
	{
		const auto status = model_.Load(settings_.model);

		if (!status.ok())
			throw failure("cannot load model '" + std::string(settings_.model) + "' (" + status.ToString() +
				      "); train one with spm_train --model_type=bpe");
	}

	void tokenize(std::uint64_t batch)
	{
		std::size_t first = batch * settings_.rows;
		std::size_t end = std::min(first + settings_.rows, texts_.size());

		batch_.texts.clear();
		batch_.ids.resize(end - first);
		batch_.begin_ns = process_now_ns();
		for (std::size_t i = first; i < end; i++) {
			tokenize_text(texts_[i], batch_.ids[i - first]);
			batch_.texts.push_back(i);
		}
		batch_.end_ns = process_now_ns();
	}

	void tokenize_text(const text_span &span, std::vector<int> &ids)
	{
		const auto status = model_.Encode(std::string_view(file_).substr(span.offset, span.bytes), &ids);

		if (!status.ok())
			throw failure("SentencePiece cannot tokenize the text at byte " + std::to_string(span.offset) +
				      " of '" + settings_.file + "' (" + status.ToString() + ")");
		if (ids.size() > settings_.seq) {
			ids.resize(settings_.seq);
			totals_.cut++;
		}
	}

	/* Returns false if the program was told to stop. */
	bool publish(std::uint64_t number)
	{
		sluice_tensor_spec specs[BATCH_TENSORS];
		sluice_message *message;

		/* The largest that may come; the last batch of a file is smaller and shrinks. */
		batch_specs(static_cast<std::int64_t>(settings_.rows), static_cast<std::int64_t>(settings_.seq), specs);
		message = reserve(producer_.get(), specs);
		if (message == nullptr)
			return false;
		shrink(message, static_cast<std::int64_t>(batch_.ids.size()));
		fill(message);
		batch_sign(message);
		count(message);
		check(sluice_set_correlation_id(message, number), "cannot number a batch");
		check(sluice_publish(message), "cannot publish a batch");
		return true;
	}

	void shrink(sluice_message *message, std::int64_t rows)
	{
		if (rows == static_cast<std::int64_t>(settings_.rows))
			return;
		for (std::uint32_t index : {BATCH_LENGTHS, BATCH_TEXTS, BATCH_SPANS, BATCH_INPUT_IDS})
			check(sluice_shrink(message, index, rows), "cannot shrink a batch");
	}

	void fill(sluice_message *message)
	{
		std::int64_t *tokenize_ns = tensor<std::int64_t>(message, BATCH_TOKENIZE_NS);

		tokenize_ns[0] = static_cast<std::int64_t>(batch_.begin_ns);
		tokenize_ns[1] = static_cast<std::int64_t>(batch_.end_ns);
		*tensor<std::int64_t>(message, BATCH_RUN_BATCHES) =
			static_cast<std::int64_t>(batches_ * settings_.repeat);
		for (std::size_t row = 0; row < batch_.ids.size(); row++)
			fill_row(message, row);
	}

	void fill_row(sluice_message *message, std::size_t row)
	{
		const std::vector<int> &ids = batch_.ids[row];
		const text_span &span = texts_[batch_.texts[row]];
		std::int32_t *place = tensor<std::int32_t>(message, BATCH_INPUT_IDS) + row * settings_.seq;
		std::int64_t *place_span = tensor<std::int64_t>(message, BATCH_SPANS) + row * 2;

		std::fill(std::copy(ids.begin(), ids.end(), place), place + settings_.seq, 0);
		tensor<std::int32_t>(message, BATCH_LENGTHS)[row] = static_cast<std::int32_t>(ids.size());
		tensor<std::int32_t>(message, BATCH_TEXTS)[row] = static_cast<std::int32_t>(batch_.texts[row]);
		place_span[0] = static_cast<std::int64_t>(span.offset);
		place_span[1] = static_cast<std::int64_t>(span.bytes);
	}

	void count(const sluice_message *message)
	{
		batch batch;
		const char *wrong = batch_read(message, &batch);

		if (wrong != nullptr)
			throw failure(std::string("this batch is not fit to be sent: it has ") + wrong);
		totals_.batches++;
		totals_.texts += batch_.ids.size();
		for (const auto &ids : batch_.ids)
			totals_.tokens += ids.size();
		totals_.checksum += batch_content_checksum(&batch);
	}
};

enum { OPTION_COUNT = 256 };

const argp_option options[] = {
	{"channel", 'c', "NAME", 0, "Channel to publish on (tokens)", 0},
	{"model", 'm', "FILE", 0, "SentencePiece model, as spm_train writes it", 0},
	{"part", 'p', "I/K", 0, "Take every K-th batch, from the I-th on, 0 <= I < K (0/1)", 0},
	{"batch", 'b', "TEXTS", 0, "Texts in a batch (32)", 0},
	{"seq", 's', "TOKENS", 0, "Tokens of a text at most; longer ones are cut (256)", 0},
	{"repeat", 'r', "TIMES", 0, "Go over the file so many times (1)", 0},
	{"depth", 'd', "BATCHES", 0, "Batches that may wait in this lane, at least 2 (16)", 0},
	{"count", OPTION_COUNT, nullptr, 0, "Only print how many texts and batches the file makes", 0},
	{nullptr, 0, nullptr, 0, nullptr, 0},
};

void parse_part(const char *text, settings &settings, argp_state *state)
{
	std::string part = text;
	std::size_t slash = part.find('/');

	if (slash == part.npos || !process_parse_count(part.c_str() + slash + 1, 1, 1000, &settings.parts) ||
		!process_parse_count(part.substr(0, slash).c_str(), 0, settings.parts - 1, &settings.part))
		argp_error(state, "--part takes I/K with 0 <= I < K, for example 0/2 and 1/2, not '%s'", text);
}

void parse_count(const char *text, std::uint64_t least, std::uint64_t most, std::uint64_t &value, argp_state *state)
{
	if (!process_parse_count(text, least, most, &value))
		argp_error(state, "'%s' should be a number from %" PRIu64 " to %" PRIu64, text, least, most);
}

error_t parse_option(int key, char *argument, argp_state *state)
{
	settings &settings = *static_cast<::settings *>(state->input);

	switch (key) {
	case 'c':
		settings.channel = argument;
		return 0;
	case 'm':
		settings.model = argument;
		return 0;
	case 'p':
		parse_part(argument, settings, state);
		return 0;
	case 'b':
		parse_count(argument, 1, BATCH_MAX_ROWS, settings.rows, state);
		return 0;
	case 's':
		parse_count(argument, 8, BATCH_MAX_SEQ, settings.seq, state);
		return 0;
	case 'r':
		parse_count(argument, 1, 1000000, settings.repeat, state);
		return 0;
	case 'd':
		parse_count(argument, 2, 65536, settings.depth, state);
		return 0;
	case OPTION_COUNT:
		settings.count_only = true;
		return 0;
	case ARGP_KEY_ARG:
		if (settings.file != nullptr)
			argp_error(state, "one text file at a time: '%s' is one too many", argument);
		settings.file = argument;
		return 0;
	case ARGP_KEY_END:
		if (settings.file == nullptr)
			argp_error(state, "which text file?");
		if (settings.model == nullptr && !settings.count_only)
			argp_error(state, "which model? Train one with spm_train and pass --model");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

std::string read_text(const char *path)
{
	try {
		return read_file(path);
	} catch (const std::system_error &error) {
		throw failure("cannot read '" + std::string(path) + "' (" + error.code().message() +
			      "); pass a text file that you may read");
	}
}

void print_totals(const settings &settings, const totals &totals)
{
	std::printf("tokenizer %" PRIu64 "/%" PRIu64 ": %" PRIu64 " batches, %" PRIu64 " texts, %" PRIu64
		    " tokens, %" PRIu64 " texts cut at %" PRIu64 " tokens, checksum %016" PRIx64 "\n",
		settings.part, settings.parts, totals.batches, totals.texts, totals.tokens, totals.cut, settings.seq,
		totals.checksum);
}

int run(const settings &settings)
{
	const std::string file = read_text(settings.file);
	tokenizer tokenizer(settings, file);
	std::size_t invalid = find_invalid_utf8(file);

	if (tokenizer.batches() == 0)
		throw failure("'" + std::string(settings.file) + "' holds no text; pass a file with some words in it");
	if (invalid != std::string::npos && settings.part == 0 && !settings.count_only)
		process_complain("'%s' is not UTF-8 from byte %zu on; what cannot be read counts as U+FFFD",
			settings.file, invalid);
	if (settings.count_only) {
		std::printf("%zu texts, %" PRIu64 " batches\n", tokenizer.texts(), tokenizer.batches());
		return EXIT_SUCCESS;
	}
	tokenizer.run();
	print_totals(settings, tokenizer.sums());
	return process_stopped() == 0 ? EXIT_SUCCESS : 128 + process_stopped();
}

} // namespace

int main(int count, char **arguments)
{
	static const argp parser = {options, parse_option, "FILE",
		"Tokenizes a text file and publishes token batches on a Sluice channel.\v"
		"Two processes share a file like this:\n"
		"  tokenizer --model m.model --part 0/2 FILE &\n"
		"  tokenizer --model m.model --part 1/2 FILE &\n"
		"  inference --producers 2 --text FILE",
		nullptr, nullptr, nullptr};
	settings settings;

	argp_parse(&parser, count, arguments, 0, nullptr, &settings);
	process_catch_signals();
	try {
		return run(settings);
	} catch (const std::exception &error) {
		process_complain("%s", error.what());
		return EXIT_FAILURE;
	}
}

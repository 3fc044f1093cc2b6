// SPDX-License-Identifier: Apache-2.0
// Boost.Interprocess message_queue, one each way: a mutex, conditions and a copy in shared memory. Its only calls copy
// from and to buffers of the caller's. Spinning is try_send and try_receive again and again.
#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/version.hpp>

#include <cerrno>
#include <memory>
#include <new>
#include <string>
#include <vector>

extern "C" {
#include "case.h"
#include "payload.h"
#include "rival.h"
}

namespace
{

using boost::interprocess::message_queue;

struct line {
	std::unique_ptr<message_queue> out;
	std::unique_ptr<message_queue> in;
	std::vector<int32_t> written;
	std::vector<int32_t> read;
	bool polls;
};

std::string queue_name(const char *channel, int from)
{
	return std::string(channel) + "-boost" + std::to_string(from);
}

std::unique_ptr<message_queue> queue_open(const struct side *side, int from)
{
	const std::string name = queue_name(side->channel, from);

	return std::make_unique<message_queue>(
		boost::interprocess::open_or_create, name.c_str(), side->of->depth, side->of->bytes);
}

void line_clean_up(const char *channel)
{
	for (int from = 0; from < 2; from++)
		message_queue::remove(queue_name(channel, from).c_str());
}

std::unique_ptr<line> line_new(const struct side *side)
{
	auto made = std::make_unique<line>();

	made->written.resize(side->of->bytes / sizeof(int32_t));
	made->read.resize(side->of->bytes / sizeof(int32_t));
	made->out = queue_open(side, side->index);
	made->in = queue_open(side, 1 - side->index);
	made->polls = side->of->waiting == CASE_SPINS;
	return made;
}

// The names are needed only until both sides have the queues.
int line_open(struct side *side, void **ret_line)
{
	try {
		auto made = line_new(side);
		side_meet(side);
		if (side->index == 0)
			line_clean_up(side->channel);
		*ret_line = made.release();
		return 0;
	} catch (const boost::interprocess::interprocess_exception &problem) {
		const int error = problem.get_native_error() > 0 ? -problem.get_native_error() : -EIO;
		return side_fail(side, error, "message_queue");
	} catch (const std::bad_alloc &) {
		return side_fail(side, -ENOMEM, "message_queue");
	}
}

int line_send(void *context, uint32_t number)
{
	auto *to = static_cast<line *>(context);
	const size_t bytes = to->written.size() * sizeof(int32_t);

	payload_fill(to->written.data(), to->written.size(), number);
	try {
		if (!to->polls)
			to->out->send(to->written.data(), bytes, 0);
		else
			while (!to->out->try_send(to->written.data(), bytes, 0))
				;
	} catch (const boost::interprocess::interprocess_exception &) {
		return -EIO;
	}
	return 0;
}

int line_receive(void *context, uint32_t number)
{
	auto *from = static_cast<line *>(context);
	const size_t bytes = from->read.size() * sizeof(int32_t);
	message_queue::size_type received = 0;
	unsigned priority = 0;

	try {
		if (!from->polls)
			from->in->receive(from->read.data(), bytes, received, priority);
		else
			while (!from->in->try_receive(from->read.data(), bytes, received, priority))
				;
	} catch (const boost::interprocess::interprocess_exception &) {
		return -EIO;
	}
	const uint32_t sum = payload_sum(from->read.data(), from->read.size());
	return received == bytes && sum == payload_expected(from->read.size(), number) ? 0 : -EBADMSG;
}

void line_close(void *context)
{
	delete static_cast<line *>(context);
}

} // namespace

extern "C" const struct rival rival_boost = {"boost", "libboost-dev", BOOST_LIB_VERSION,
	"message_queue, priority 0, as deep as Sluice's lane", false, line_open, line_send, line_receive, line_close,
	line_clean_up};

/* SPDX-License-Identifier: Apache-2.0 */
/* Gather, mean, normalise, a block of threads a text. */
#include "embedder.h"

#include <cstdio>
#include <new>
#include <vector>

#include <cuda_runtime.h>

#define THREADS 256

struct slot {
	float *on_device;
	float *results; /* pinned, of the host */
	int *wrong;     /* likewise; the kernel writes it over the bus */
	cudaEvent_t done;
};

struct embedder {
	uint32_t vocabulary;
	uint32_t dimensions;
	int64_t rows;
	float *table;
	cudaStream_t stream;
	std::vector<slot> slots;
};

static bool good(cudaError_t error, const char *what)
{
	if (error != cudaSuccess)
		std::fprintf(stderr, "cuda-inference: %s: %s.\n", what, cudaGetErrorString(error));
	return error == cudaSuccess;
}

/* ---- the kernel ---- */

/* The sum of one value of each thread, in all of them. */
static __device__ float sum_of_block(float own)
{
	__shared__ float partial[THREADS / 32];

	for (int step = 16; step > 0; step /= 2)
		own += __shfl_xor_sync(0xffffffffu, own, step);
	__syncthreads();
	if (threadIdx.x % 32 == 0)
		partial[threadIdx.x / 32] = own;
	__syncthreads();
	own = 0;
	for (int i = 0; i < THREADS / 32; i++)
		own += partial[i];
	return own;
}

/*
 * Each token is read once, by one thread, and checked there: it may come over the bus, and its writer could change it
 * between the check and the use.
 */
static __global__ void embed(const float *table, uint32_t vocabulary, uint32_t dimensions, const int32_t *ids,
	const int32_t *lengths, int64_t seq, float *embeddings, int *wrong)
{
	__shared__ int32_t tokens[THREADS];
	__shared__ int32_t length;
	const int32_t *row = ids + blockIdx.x * seq;
	float *embedding = embeddings + (size_t)blockIdx.x * dimensions;
	float squares = 0;

	if (threadIdx.x == 0) {
		length = lengths[blockIdx.x];
		if (length < 0 || length > seq) {
			*wrong = 1;
			length = 0;
		}
	}
	for (uint32_t i = threadIdx.x; i < dimensions; i += THREADS)
		embedding[i] = 0;
	__syncthreads();
	for (int32_t begin = 0; begin < length; begin += THREADS) {
		const int32_t here = min(THREADS, length - begin);

		if (threadIdx.x < here) {
			const int32_t token = *(const volatile int32_t *)&row[begin + threadIdx.x];
			const bool known = token >= 0 && (uint32_t)token < vocabulary;

			if (!known)
				*wrong = 1;
			tokens[threadIdx.x] = known ? token : 0;
		}
		__syncthreads();
		for (uint32_t i = threadIdx.x; i < dimensions; i += THREADS)
			for (int32_t k = 0; k < here; k++)
				embedding[i] += table[(size_t)tokens[k] * dimensions + i];
		__syncthreads();
	}
	for (uint32_t i = threadIdx.x; i < dimensions; i += THREADS) {
		embedding[i] *= length > 0 ? 1.0f / (float)length : 0;
		squares += embedding[i] * embedding[i];
	}
	squares = sum_of_block(squares);
	for (uint32_t i = threadIdx.x; i < dimensions; i += THREADS)
		embedding[i] *= squares > 0 ? 1 / sqrtf(squares) : 0;
}

/* ---- around it ---- */

static bool make_slot(const struct embedder *embedder, slot *slot)
{
	const size_t bytes = (size_t)embedder->rows * embedder->dimensions * sizeof(float);

	return good(cudaMalloc(&slot->on_device, bytes), "no memory on the device") &&
	       good(cudaMallocHost(&slot->results, bytes), "no pinned memory") &&
	       good(cudaMallocHost(&slot->wrong, sizeof *slot->wrong), "no pinned memory") &&
	       good(cudaEventCreateWithFlags(&slot->done, cudaEventDisableTiming), "no event");
}

static bool fill(struct embedder *embedder, const struct embedding_table *table, uint32_t slots)
{
	const size_t bytes = (size_t)table->vocabulary * table->dimensions * sizeof(float);

	if (!good(cudaSetDevice(0), "no device") ||
		!good(cudaStreamCreateWithFlags(&embedder->stream, cudaStreamNonBlocking), "no stream") ||
		!good(cudaMalloc(&embedder->table, bytes), "no memory on the device for the table") ||
		!good(cudaMemcpy(embedder->table, table->rows, bytes, cudaMemcpyHostToDevice), "cannot copy the table"))
		return false;
	embedder->slots.resize(slots);
	for (slot &slot : embedder->slots)
		if (!make_slot(embedder, &slot))
			return false;
	return true;
}

bool embedder_make(const struct embedding_table *table, uint32_t slots, int64_t rows, struct embedder **ret_embedder)
{
	struct embedder *embedder = new (std::nothrow) struct embedder();

	if (embedder == nullptr)
		return false;
	embedder->vocabulary = table->vocabulary;
	embedder->dimensions = table->dimensions;
	embedder->rows = rows;
	if (!fill(embedder, table, slots)) {
		embedder_free(embedder);
		return false;
	}
	*ret_embedder = embedder;
	return true;
}

void embedder_free(struct embedder *embedder)
{
	if (embedder == nullptr)
		return;
	if (embedder->stream != nullptr)
		good(cudaStreamSynchronize(embedder->stream), "the device failed");
	for (slot &slot : embedder->slots) {
		cudaFree(slot.on_device);
		cudaFreeHost(slot.results);
		cudaFreeHost(slot.wrong);
		if (slot.done != nullptr)
			cudaEventDestroy(slot.done);
	}
	cudaFree(embedder->table);
	if (embedder->stream != nullptr)
		cudaStreamDestroy(embedder->stream);
	delete embedder;
}

struct CUstream_st *embedder_stream(const struct embedder *embedder)
{
	return embedder->stream;
}

bool embedder_embed(struct embedder *embedder, uint32_t slot, uintptr_t ids, uintptr_t lengths, int64_t rows, int64_t seq)
{
	struct slot *of = &embedder->slots[slot];
	const size_t bytes = (size_t)rows * embedder->dimensions * sizeof(float);

	*of->wrong = 0;
	embed<<<(unsigned)rows, THREADS, 0, embedder->stream>>>(embedder->table, embedder->vocabulary,
		embedder->dimensions, (const int32_t *)ids, (const int32_t *)lengths, seq, of->on_device, of->wrong);
	return good(cudaGetLastError(), "cannot start the kernel") &&
	       good(cudaMemcpyAsync(of->results, of->on_device, bytes, cudaMemcpyDeviceToHost, embedder->stream),
		       "cannot copy results") &&
	       good(cudaEventRecord(of->done, embedder->stream), "cannot record an event");
}

bool embedder_wait(struct embedder *embedder, uint32_t slot)
{
	struct slot *of = &embedder->slots[slot];

	return good(cudaEventSynchronize(of->done), "the device failed") && *(volatile int *)of->wrong == 0;
}

const float *embedder_results(const struct embedder *embedder, uint32_t slot)
{
	return embedder->slots[slot].results;
}

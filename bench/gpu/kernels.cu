/* SPDX-License-Identifier: Apache-2.0 */
/* The benchmark's kernel: reads every token once, as an embedding's gather would, wherever they lie. */

extern "C" __global__ void sum_tokens(const int *tokens, unsigned count, int *sum)
{
	__shared__ int partial[32];
	int own = 0;

	for (unsigned i = threadIdx.x; i < count; i += blockDim.x)
		own += tokens[i];
	for (int step = 16; step > 0; step /= 2)
		own += __shfl_down_sync(0xffffffffu, own, step);
	if (threadIdx.x % 32 == 0)
		partial[threadIdx.x / 32] = own;
	__syncthreads();
	if (threadIdx.x >= 32)
		return;
	own = threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0;
	for (int step = 16; step > 0; step /= 2)
		own += __shfl_down_sync(0xffffffffu, own, step);
	if (threadIdx.x == 0)
		*sum = own;
}

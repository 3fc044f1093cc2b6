/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include <errno.h>

#include "layout.h"
#include "tensor.h"

static int plan_sizes(const struct sluice_tensor_spec *specs, size_t count, struct plan *plan, uint32_t *ret_dims)
{
	uint32_t dims = 0;
	plan->wide = false;
	for (size_t i = 0; i < count; i++) {
		uint32_t element_bytes = tensor_element_bytes(specs[i].dtype);
		if (specs[i].ndim > SLUICE_MAX_DIMENSIONS)
			return -E2BIG;
		if (element_bytes == 0)
			return -EINVAL;
		int error = tensor_bytes(specs[i].shape, specs[i].ndim, element_bytes, &plan->tensor_bytes[i]);
		if (error != 0)
			return error;
		for (uint32_t k = 0; k < specs[i].ndim; k++)
			plan->wide |= specs[i].shape[k] > UINT32_MAX;
		dims += specs[i].ndim;
	}
	*ret_dims = dims;
	return 0;
}

int plan_message(
	const struct sluice_tensor_spec *specs, size_t count, uint32_t alignment, uint64_t largest, struct plan *plan)
{
	uint32_t dims;
	int error = plan_sizes(specs, count, plan, &dims);
	if (error != 0)
		return error;
	plan->wide |= dims + count - 1 > LAYOUT_DIMS;
	uint64_t end = plan->wide ? (dims + count) * sizeof(uint64_t) : 0;
	for (size_t i = 0; i < count; i++) {
		plan->offsets[i] = align_up(end, alignment);
		if (plan->tensor_bytes[i] > largest || plan->offsets[i] > largest - plan->tensor_bytes[i])
			return -EMSGSIZE;
		end = plan->offsets[i] + plan->tensor_bytes[i];
	}
	plan->inside = !plan->wide && end <= LAYOUT_INLINE_BYTES && (alignment == 64 || end == 0);
	plan->bytes = plan->inside ? 0 : align_up(end, alignment);
	return 0;
}

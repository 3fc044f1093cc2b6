/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes of elements and shapes: what is carried, and that no product comes out small because it wrapped. */
#include "tensor.h"

#include <sluice/tensor.h>

#include "../support/harness.h"
#include "corrupt.h"
#include "random.h"

/* ---- elements ---- */

static void each_named_type_has_its_size(void **state)
{
	static const struct {
		uint32_t dtype, bytes;
	} table[] = {
		{SLUICE_INT8, 1},
		{SLUICE_INT16, 2},
		{SLUICE_INT32, 4},
		{SLUICE_INT64, 8},
		{SLUICE_UINT8, 1},
		{SLUICE_UINT16, 2},
		{SLUICE_UINT32, 4},
		{SLUICE_UINT64, 8},
		{SLUICE_FLOAT16, 2},
		{SLUICE_FLOAT32, 4},
		{SLUICE_FLOAT64, 8},
		{SLUICE_BFLOAT16, 2},
		{SLUICE_BOOL, 1},
		{SLUICE_FLOAT8_E3M4, 1},
		{SLUICE_FLOAT8_E4M3, 1},
		{SLUICE_FLOAT8_E4M3B11FNUZ, 1},
		{SLUICE_FLOAT8_E4M3FN, 1},
		{SLUICE_FLOAT8_E4M3FNUZ, 1},
		{SLUICE_FLOAT8_E5M2, 1},
		{SLUICE_FLOAT8_E5M2FNUZ, 1},
		{SLUICE_FLOAT8_E8M0FNU, 1},
	};

	(void)state;
	for (unsigned i = 0; i < COUNT_OF(table); i++)
		check_equal(table[i].bytes, tensor_element_bytes(table[i].dtype));
}

static void of_all_codes_and_widths_the_named_ones_are_carried(void **state)
{
	unsigned carried = 0;

	(void)state;
	for (uint32_t type = 0; type < 1 << 16; type++) {
		carried += tensor_element_bytes(type | 1 << 16) != 0;
		check_equal(0, tensor_element_bytes(type));
		check_equal(0, tensor_element_bytes(type | 2 << 16));
		check_equal(0, tensor_element_bytes(type | 257U << 16));
		check_equal(0, tensor_element_bytes(type | 0xffffU << 16));
	}
	check_equal(21, carried);
}

/* ---- shapes ---- */

#define SHAPE(...) ((const int64_t[]){__VA_ARGS__}), sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)

static void check_bytes(uint64_t expected, const int64_t *shape, uint32_t ndim, uint32_t element_bytes)
{
	uint64_t bytes = 4711;

	check_result(0, tensor_bytes(shape, ndim, element_bytes, &bytes));
	check_equal(expected, bytes);
}

static void check_refused(int expected, const int64_t *shape, uint32_t ndim, uint32_t element_bytes)
{
	uint64_t bytes = 4711;

	check_result(expected, tensor_bytes(shape, ndim, element_bytes, &bytes));
	check_equal(4711, bytes);
}

static void a_scalar_is_one_element(void **state)
{
	(void)state;
	check_bytes(1, NULL, 0, 1);
	check_bytes(8, NULL, 0, 8);
}

static void a_shape_takes_the_product_of_its_dimensions(void **state)
{
	(void)state;
	check_bytes(40, SHAPE(10), 4);
	check_bytes(3 * 224 * 224 * 4, SHAPE(3, 224, 224), 4);
	check_bytes(256 * 2, SHAPE(2, 2, 2, 2, 2, 2, 2, 2), 2);
	check_bytes(8, SHAPE(1, 1, 1, 1, 1, 1, 1, 1), 8);
}

static void a_dimension_of_zero_makes_it_empty_however_large_the_others(void **state)
{
	(void)state;
	check_bytes(0, SHAPE(0), 8);
	check_bytes(0, SHAPE(0, INT64_MAX, INT64_MAX), 8);
	check_bytes(0, SHAPE(INT64_MAX, INT64_MAX, 0), 8);
	check_bytes(0, SHAPE(INT64_MAX, 0, INT64_MAX), 8);
}

static void a_negative_dimension_is_refused_even_beside_a_zero(void **state)
{
	(void)state;
	check_refused(-EINVAL, SHAPE(-1), 1);
	check_refused(-EINVAL, SHAPE(INT64_MIN), 1);
	check_refused(-EINVAL, SHAPE(-1, -1), 1);
	check_refused(-EINVAL, SHAPE(0, -1), 1);
	check_refused(-EINVAL, SHAPE(-1, 0), 1);
	check_refused(-EINVAL, SHAPE(INT64_MAX, INT64_MAX, -1), 1);
}

static void sizes_end_at_63_bits(void **state)
{
	(void)state;
	check_bytes(INT64_MAX, SHAPE(INT64_MAX), 1);
	check_bytes(UINT64_C(1) << 62, SHAPE(INT64_C(1) << 31, INT64_C(1) << 29), 4);
	check_refused(-EOVERFLOW, SHAPE(INT64_C(1) << 62), 2);
	check_refused(-EOVERFLOW, SHAPE(INT64_C(1) << 31, INT64_C(1) << 31), 2);
	check_refused(-EOVERFLOW, SHAPE(INT64_C(1) << 32, INT64_C(1) << 32), 1);       /* 2^64: would come out as 0 */
	check_refused(-EOVERFLOW, SHAPE((INT64_C(1) << 32) + 1, INT64_C(1) << 32), 1); /* as 2^32 */
	check_refused(-EOVERFLOW, SHAPE(INT64_MAX, 2, 1), 8);
	check_refused(-EOVERFLOW, SHAPE(INT64_C(1) << 32, INT64_C(1) << 32, 1, 1), 1);
}

/* Answers as tensor_bytes should, in numbers that cannot wrap. */
static int wide_bytes(const int64_t *shape, uint32_t ndim, uint32_t element_bytes, uint64_t *ret_bytes)
{
	unsigned __int128 product = element_bytes;
	bool empty = false;

	for (uint32_t i = 0; i < ndim; i++)
		empty |= shape[i] == 0;
	for (uint32_t i = 0; i < ndim && !empty && product <= INT64_MAX; i++)
		product *= (uint64_t)shape[i];
	if (!empty && product > INT64_MAX)
		return -EOVERFLOW;
	*ret_bytes = empty ? 0 : (uint64_t)product;
	return 0;
}

static void random_shapes_agree_with_wider_arithmetic(void **state)
{
	uint64_t seed = 1;
	unsigned fits = 0, overflows = 0;

	(void)state;
	for (uint64_t i = 0; i < 100000; i++) {
		const uint32_t ndim = (uint32_t)random_below(&seed, 9);
		const uint32_t element_bytes = 1U << random_below(&seed, 4);
		const uint64_t widest = 1 + 128 / (ndim + 1);
		int64_t shape[8];
		uint64_t bytes = 4711, expected = 4711;
		int error;

		for (uint32_t k = 0; k < ndim; k++)
			shape[k] = (int64_t)(random_number(&seed) >>
					     (64 - random_below(&seed, widest < 64 ? widest : 63) - 1) >> 1);
		error = tensor_bytes(shape, ndim, element_bytes, &bytes);
		check_result(wide_bytes(shape, ndim, element_bytes, &expected), error);
		check_equal(expected, bytes);
		fits += error == 0 && bytes > 0;
		overflows += error != 0;
	}
	check(fits > 1000 && overflows > 1000);
}

static void aligning_goes_up_to_the_next_multiple(void **state)
{
	(void)state;
	for (uint64_t alignment = 1; alignment <= 8192; alignment *= 2) {
		check_equal(0, align_up(0, alignment));
		check_equal(alignment, align_up(1, alignment));
		check_equal(alignment, align_up(alignment, alignment));
		check_equal(2 * alignment, align_up(alignment + 1, alignment));
		check_equal(UINT64_C(1) << 62, align_up((UINT64_C(1) << 62) - alignment + 1, alignment));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		promise(each_named_type_has_its_size),
		promise(of_all_codes_and_widths_the_named_ones_are_carried),
		promise(a_scalar_is_one_element),
		promise(a_shape_takes_the_product_of_its_dimensions),
		promise(a_dimension_of_zero_makes_it_empty_however_large_the_others),
		promise(a_negative_dimension_is_refused_even_beside_a_zero),
		promise(sizes_end_at_63_bits),
		promise(random_shapes_agree_with_wider_arithmetic),
		promise(aligning_goes_up_to_the_next_multiple),
	};

	return cmocka_run_group_tests_name("tensor", tests, NULL, NULL);
}

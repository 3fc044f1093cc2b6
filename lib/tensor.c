/* SPDX-License-Identifier: Apache-2.0 */
#include "tensor.h"

#include <stdbool.h>

/* DLDataTypeCode of dlpack.h. */
enum {
	CODE_INT = 0,
	CODE_UINT = 1,
	CODE_FLOAT = 2,
	CODE_BFLOAT = 4,
	CODE_BOOL = 6,
	CODE_FLOAT8_FIRST = 7,
	CODE_FLOAT8_LAST = 14
};

static bool is_carried(uint32_t code, uint32_t bits)
{
	switch (code) {
	case CODE_INT:
	case CODE_UINT:
		return bits == 8 || bits == 16 || bits == 32 || bits == 64;
	case CODE_FLOAT:
		return bits == 16 || bits == 32 || bits == 64;
	case CODE_BFLOAT:
		return bits == 16;
	case CODE_BOOL:
		return bits == 8;
	default:
		return code >= CODE_FLOAT8_FIRST && code <= CODE_FLOAT8_LAST && bits == 8;
	}
}

uint32_t tensor_element_bytes(uint32_t dtype)
{
	uint32_t code = dtype & 0xff;
	uint32_t bits = dtype >> 8 & 0xff;
	uint32_t lanes = dtype >> 16;
	return lanes == 1 && is_carried(code, bits) ? bits / 8 : 0;
}

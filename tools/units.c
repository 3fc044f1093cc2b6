/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers as people read them. */
#include <inttypes.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#include "units.h"

struct unit {
	double size;
	const char *name;
};

/* Three significant digits are enough, and a round number is shown without a fraction. */
static struct text scaled(double value, const char *unit)
{
	struct text text;
	int digits = value < 10 ? 2 : value < 100 ? 1 : 0;
	uint64_t scale = digits == 2 ? 100 : digits == 1 ? 10 : 1;
	uint64_t number = (uint64_t)(value * (double)scale + 0.5);

	for (; digits && number % 10 == 0; digits--) {
		number /= 10;
		scale /= 10;
	}
	snprintf(text.text, sizeof text.text, "%.*f %s", digits, (double)number / (double)scale, unit);
	return text;
}

static struct text in_units(uint64_t value, const struct unit *unit)
{
	/* Just under a unit rounds up to it: 1023.9 KiB is 1 MiB. */
	while (unit[1].name && (double)value * 1.0005 >= unit[1].size)
		unit++;
	return scaled((double)value / unit->size, unit->name);
}

struct text units_bytes(uint64_t bytes)
{
	static const struct unit units[] = {{1, "B"}, {0x1p10, "KiB"}, {0x1p20, "MiB"}, {0x1p30, "GiB"},
		{0x1p40, "TiB"}, {0x1p50, "PiB"}, {0, NULL}};
	return in_units(bytes, units);
}

struct text units_duration(uint64_t ns)
{
	static const struct unit units[] = {{1, "ns"}, {1e3, "us"}, {1e6, "ms"}, {1e9, "s"}, {60e9, "min"},
		{3600e9, "h"}, {24 * 3600e9, "d"}, {0, NULL}};
	return in_units(ns, units);
}

struct text units_time(uint64_t realtime_ns)
{
	struct text text;
	struct tm when;
	time_t seconds = (time_t)(realtime_ns / UINT64_C(1000000000));

	if (!localtime_r(&seconds, &when) || !strftime(text.text, sizeof text.text, "%Y-%m-%d %H:%M:%S", &when))
		snprintf(text.text, sizeof text.text, "unknown");
	return text;
}

struct text units_user(uint32_t uid)
{
	struct text text;
	const struct passwd *user = getpwuid(uid);

	if (user)
		snprintf(text.text, sizeof text.text, "%s", user->pw_name);
	else
		snprintf(text.text, sizeof text.text, "uid %" PRIu32, uid);
	return text;
}

struct text units_count(uint64_t count, const char *singular)
{
	struct text text;

	snprintf(text.text, sizeof text.text, "%" PRIu64 " %s%s", count, singular, count == 1 ? "" : "s");
	return text;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* From a result code of the library to a sentence that says what to do next. */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <sluice/channel.h>
#include <sluice/error.h>
#include <sluice/version.h>

#include "explain.h"
#include "output.h"
#include "suggest.h"
#include "tool.h"

const char *explain_directory(char *buffer, size_t size, const struct request *request, int code)
{
	const char *directory = request->shown_directory;

	if (code == -ENOENT)
		snprintf(buffer, size,
			"there is no directory %s; 'sluice doctor --dir %s' says how to make one, or name another with "
			"--dir or "
			"SLUICE_DIR",
			directory, directory);
	else if (code == -EACCES)
		snprintf(buffer, size,
			"you may not read %s; run this as its owner or as root, or name another with --dir", directory);
	else if (code == -ENOTDIR)
		snprintf(buffer, size, "%s is not a directory; name one with --dir or SLUICE_DIR", directory);
	else if (code == -ENOTSUP)
		snprintf(buffer, size,
			"%s is not on a tmpfs, so there are no channels; name another with --dir or SLUICE_DIR",
			directory);
	else
		snprintf(buffer, size, "%s: %s", directory, sluice_strerror(code));
	return buffer;
}

/* Finds the channel whose name is nearest to `name`; an empty name if none is near. */
static struct sluice_channel_entry nearest_channel(const struct request *request, const char *name)
{
	struct sluice_channel_entry *entries, nearest = {0};
	int count = sluice_channel_list(request->directory, &entries);
	size_t best = SIZE_MAX;

	if (count < 0)
		return nearest;
	for (int i = 0; i < count; i++) {
		size_t distance = suggest_distance(name, entries[i].name);
		if (suggest_is_near(name, entries[i].name) && distance < best) {
			best = distance;
			nearest = entries[i];
		}
	}
	sluice_channel_list_free(entries);
	return nearest;
}

static void explain_missing(char *buffer, size_t size, const struct request *request, const char *name)
{
	struct stat status;

	if (stat(request->shown_directory, &status)) {
		explain_directory(buffer, size, request, -errno);
		return;
	}
	struct sluice_channel_entry nearest = nearest_channel(request, name);
	char reason[COMPLAINT_BYTES / 2];
	if (!strcmp(nearest.name, name))
		snprintf(buffer, size, "channel '%s': %s", name,
			explain_entry(reason, sizeof reason, request, name, 0, -ENOENT));
	else if (nearest.name[0])
		snprintf(buffer, size, "there is no channel '%s' in %s; did you mean '%s'?", name,
			request->shown_directory, nearest.name);
	else
		snprintf(buffer, size,
			"there is no channel '%s' in %s; 'sluice ls' lists what there is, --dir or SLUICE_DIR names "
			"another "
			"directory",
			name, request->shown_directory);
}

static void explain_version(char *buffer, size_t size, unsigned int layout_version, const char *remove)
{
	if (layout_version == sluice_layout_version())
		snprintf(buffer, size,
			"it uses what this tool does not know; use a later version of the tool, or '%s' if nobody uses "
			"it",
			remove);
	else
		snprintf(buffer, size,
			"it has layout version %u and this tool reads %u; use the tool of that version, or '%s' if "
			"nobody uses it",
			layout_version, sluice_layout_version(), remove);
}

const char *explain_entry(char *buffer, size_t size, const struct request *request, const char *name,
	unsigned int layout_version, int code)
{
	char remove[COMPLAINT_BYTES * 3 / 8];

	snprintf(remove, sizeof remove, "sluice rm %s%s%s", name, request->directory ? " --dir " : "",
		request->directory ? request->directory : "");

	switch (code) {
	case -EACCES:
		snprintf(buffer, size, "it belongs to somebody else; try as its owner or as root");
		break;
	case -EPERM:
		snprintf(buffer, size, "its owner is not trusted here; try as its owner or as root");
		break;
	case -ELOOP:
		snprintf(buffer, size,
			"a symbolic link stands in its place, and links are not followed; see %s/sluice.%s",
			request->shown_directory, name);
		break;
	case -EPROTO:
		snprintf(buffer, size, "not made by Sluice; look at %s/sluice.%s and delete it if nobody needs it",
			request->shown_directory, name);
		break;
	case -EPROTONOSUPPORT:
		explain_version(buffer, size, layout_version, remove);
		break;
	case -ENOENT:
		snprintf(buffer, size, "only lanes are left of it, the channel itself is gone; remove them with '%s'",
			remove);
		break;
	case -EBADMSG:
		snprintf(buffer, size, "its contents contradict themselves; stop its members and remove it with '%s'",
			remove);
		break;
	default:
		snprintf(buffer, size, "%s", sluice_strerror(code));
	}
	return buffer;
}

const char *explain_channel(char *buffer, size_t size, const struct request *request, const char *name, int code)
{
	char reason[COMPLAINT_BYTES];

	if (code == -EINVAL)
		snprintf(buffer, size,
			"'%s' cannot be a channel's name: 1 to %d letters, digits, '.', '_' and '-', not starting with "
			"'.'%s",
			name, SLUICE_MAX_NAME, strchr(name, '/') ? "; name the directory with --dir" : "");
	else if (code == -ENOENT)
		explain_missing(buffer, size, request, name);
	else if (code == -ENOTDIR || code == -ENOTSUP)
		explain_directory(buffer, size, request, code);
	else if (code == -ETIMEDOUT)
		snprintf(buffer, size,
			"somebody has been opening or leaving channel '%s' all the time; try again, and see 'sluice "
			"stat %s'",
			name, name);
	else
		snprintf(buffer, size, "channel '%s': %s", name,
			explain_entry(reason, sizeof reason, request, name,
				nearest_channel(request, name).layout_version, code));
	return buffer;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of channels. */
#include "address.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "errors.h"

/* ---- arguments ---- */

static bool is_name(const char *text, Py_ssize_t length)
{
	if (length < 1 || length > SLUICE_MAX_NAME || text[0] == '.')
		return false;
	for (Py_ssize_t i = 0; i < length; i++)
		if (!Py_ISALNUM(text[i]) && text[i] != '.' && text[i] != '_' && text[i] != '-')
			return false;
	return true;
}

int address_parse_name(PyObject *name, const char **ret_text)
{
	if (!PyUnicode_Check(name)) {
		PyErr_Format(PyExc_TypeError, "name is a str, not %.100s", Py_TYPE(name)->tp_name);
		return -1;
	}
	Py_ssize_t length = 0;
	const char *text = PyUnicode_AsUTF8AndSize(name, &length);
	if (text == NULL && !PyErr_ExceptionMatches(PyExc_UnicodeError))
		return -1;
	PyErr_Clear();
	if (text != NULL && is_name(text, length)) {
		*ret_text = text;
		return 0;
	}
	errors_raise(-EINVAL,
		"name is %R; a channel's is 1 to %d of the letters a to z and A to Z, digits, '.', '_' and '-', not "
		"starting "
		"with '.'%s",
		name, SLUICE_MAX_NAME,
		text != NULL && memchr(text, '/', (size_t)length) != NULL ? "; directory= names the directory" : "");
	return -1;
}

int address_parse_directory(PyObject *directory, PyObject **ret_bytes)
{
	if (directory == NULL || directory == Py_None)
		return 0;
	if (!PyUnicode_Check(directory) && !PyBytes_Check(directory) &&
		!PyObject_HasAttrString((PyObject *)Py_TYPE(directory), "__fspath__")) {
		PyErr_Format(PyExc_TypeError, "directory is a str, bytes, os.PathLike or None, not %.100s",
			Py_TYPE(directory)->tp_name);
		return -1;
	}
	if (PyUnicode_FSConverter(directory, ret_bytes))
		return 0;
	if (PyErr_ExceptionMatches(PyExc_ValueError)) {
		PyErr_Clear();
		errors_raise(-EINVAL, "directory is %R; it is a path without null characters", directory);
	}
	return -1;
}

/* ---- where it is ---- */

struct source_of {
	const char *path;
	const char *origin; /* in brackets */
};

static struct source_of directory_of(const char *given)
{
	if (given != NULL && given[0] != '\0')
		return (struct source_of){given, "directory="};
	const char *path = given == NULL ? secure_getenv("SLUICE_DIR") : NULL;
	if (path != NULL && path[0] != '\0')
		return (struct source_of){path, "SLUICE_DIR"};
	return (struct source_of){"/dev/shm", "the default"};
}

const char *address_directory(const char *given)
{
	return directory_of(given).path;
}

PyObject *address_call(const char *function, PyObject *name, const char *given)
{
	PyObject *directory = given != NULL ? PyUnicode_DecodeFSDefault(given) : NULL;
	if (given != NULL && directory == NULL)
		return NULL;
	PyObject *text = directory == NULL && name == NULL ? PyUnicode_FromFormat("sluice.%s()", function)
			 : directory == NULL               ? PyUnicode_FromFormat("sluice.%s(%R)", function, name)
			 : name == NULL                    ? PyUnicode_FromFormat("sluice.%s(%R)", function, directory)
					: PyUnicode_FromFormat("sluice.%s(%R, %R)", function, name, directory);
	Py_XDECREF(directory);
	return text;
}

/* ---- what is raised ---- */

static bool is_memory(const char *path)
{
	struct statfs system;
	if (statfs(path, &system) != 0)
		return true; /* unknown */
	return system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC || system.f_type == HUGETLBFS_MAGIC;
}

/* True if the channel's lanes are there, but it is not. */
static bool only_lanes_are_left(PyObject *name, const char *given)
{
	struct sluice_channel_entry *entries = NULL;
	int count = sluice_channel_list(given, &entries);
	bool found = false;
	for (int i = 0; i < count && !found; i++)
		found = entries[i].error == -ENOENT && PyUnicode_CompareWithASCIIString(name, entries[i].name) == 0;
	sluice_channel_list_free(entries);
	return found;
}

static PyObject *raise_missing(PyObject *name, const char *given)
{
	struct source_of directory = directory_of(given);
	struct stat status;
	if (stat(directory.path, &status) != 0)
		return errors_raise(-ENOENT,
			"there is no directory %s (%s): make it, on a tmpfs or hugetlbfs, or name another with "
			"directory= or "
			"SLUICE_DIR",
			directory.path, directory.origin);
	bool left = name != NULL && only_lanes_are_left(name, given);
	PyObject *call = left ? address_call("remove", name, given) : address_call("list", NULL, given);
	if (call == NULL)
		return NULL;
	if (left)
		errors_raise(-ENOENT, "only lanes are left of channel %R in %s (%s): %U removes them", name,
			directory.path, directory.origin, call);
	else if (name != NULL)
		errors_raise(-ENOENT,
			"there is no channel %R in %s (%s): see %U for those that there are, or name another directory "
			"with "
			"directory= or SLUICE_DIR",
			name, directory.path, directory.origin, call);
	else
		errors_raise(-ENOENT, NULL);
	Py_DECREF(call);
	return NULL;
}

static PyObject *raise_unsuitable(int code, const char *given, const char *what)
{
	struct source_of directory = directory_of(given);
	return errors_raise_argument(code,
		"%s (%s) is %s: name a directory on a tmpfs or hugetlbfs, as /dev/shm is, with directory= or "
		"SLUICE_DIR",
		directory.path, directory.origin, what);
}

static PyObject *raise_other_version(int code, PyObject *name, const char *given)
{
	PyObject *call = address_call("remove", name, given);
	if (call != NULL)
		errors_raise(code,
			"channel %R in %s was made by a Sluice of another layout version: use that version, or %U if "
			"nobody "
			"uses it",
			name, address_directory(given), call);
	Py_XDECREF(call);
	return NULL;
}

PyObject *address_raise(int code, PyObject *name, const char *given)
{
	struct source_of directory = directory_of(given);
	if (code == -ENOENT)
		return raise_missing(name, given);
	if (code == -ENOTDIR)
		return raise_unsuitable(code, given, "no directory");
	if (code == -ENOTSUP && !is_memory(directory.path))
		return raise_unsuitable(code, given, "on no tmpfs or hugetlbfs");
	if (code == -EACCES && access(directory.path, R_OK | X_OK) != 0)
		return errors_raise(code,
			"%s (%s) may not be read by this user: name another with directory= or SLUICE_DIR",
			directory.path, directory.origin);
	if (name == NULL)
		return errors_raise(code, "%s (%s): %s", directory.path, directory.origin, errors_sentence(code));
	if (code == -ETIMEDOUT)
		return errors_raise(code,
			"channel %R in %s: others were opening or leaving it all the time: call again", name,
			directory.path);
	if (code == -EPROTONOSUPPORT)
		return raise_other_version(code, name, given);
	return errors_raise(code, "channel %R in %s: %s", name, directory.path, errors_sentence(code));
}

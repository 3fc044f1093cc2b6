/* SPDX-License-Identifier: Apache-2.0 */
/* From a command line to a request: the options are the same for all verbs, the verb says which of them it takes. */
#ifndef SLUICE_TOOL_REQUEST_H
#define SLUICE_TOOL_REQUEST_H

#include "tool.h"

enum request_result { REQUEST_RUN, REQUEST_HELP, REQUEST_WRONG };

/*
 * Reads the words after the verb (argv[0] is the verb) into `*ret_request`. On REQUEST_WRONG it has told the user what is
 * wrong. Reorders argv.
 */
enum request_result request_parse(const struct verb *verb, int argc, char **argv, struct request *ret_request);

#endif

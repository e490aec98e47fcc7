/* SPDX-License-Identifier: MIT */
/* mem, file and their like: a verb for each backend. */
#include "cli/backends.h"
#include "cli/verbs.h"
#include "serve/cookie.h"
#include "serve/serve.h"

int verb_make(const struct args *a)
{
	struct args made = *a;
	int ret = make_args(&made);

	if (ret)
		return ret;
	made.job.cookie = cookie_make(backend_type(made.job.be), &made.job.o);
	return serve(&made.job, made.command, made.daemon);
}

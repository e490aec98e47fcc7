/* SPDX-License-Identifier: MIT */
/* fore COMMAND...: with SIGINT as a command in the foreground has it; a script's shell ignores it for what it starts with &. */
#include <signal.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	signal(SIGINT, SIG_DFL);
	if (argc > 1)
		execvp(argv[1], argv + 1);
	return 127;
}

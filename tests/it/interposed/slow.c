/* A disk that needs its time: every sync of a file takes 40 ms longer. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int fdatasync(int file)
{
	struct timespec pause = { .tv_nsec = 40000000 };

	nanosleep(&pause, NULL);
	return syscall(SYS_fdatasync, file);
}

/* Makes the n-th call of one kind fail, or sends a signal as it is made: preloaded, and armed from Python by ctypes. Of
 * calls on a descriptor those on regular files count, so that what a process says of itself on a pipe still arrives. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { ONCE, FOREVER, SHORT, SIGNAL };

static char armed_call[16];
static long armed_nth;
static int armed_how, armed_errno;
static int *fired; /* in memory shared with the process that counts */
static long seen;

void fault_arm(const char *call, long nth, int how, int error, int *shared)
{
    strncpy(armed_call, call, sizeof armed_call - 1);
    armed_nth = nth, armed_how = how, armed_errno = error, fired = shared, seen = 0;
}

static int regular(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

/* 0: go on; SHORT: write less; else the errno */
static int fault(const char *call, int fd)
{
    if (armed_nth == 0 || strcmp(call, armed_call) != 0)
        return 0;
    if (fd >= 0 && !regular(fd) && strcmp(call, "fsync") != 0)
        return 0;
    long number = __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
    if (number < armed_nth || (number > armed_nth && armed_how != FOREVER))
        return 0;
    *fired = 1;
    if (armed_how == SIGNAL) { /* whose number is in the place of the errno */
        kill(getpid(), armed_errno);
        return 0;
    }
    return armed_how == SHORT ? -1 : armed_errno;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define WRITE(name, call, parameters, arguments)                                                                       \
    ssize_t name parameters                                                                                            \
    {                                                                                                                  \
        int error = fault(call, fd);                                                                                   \
        if (error > 0)                                                                                                 \
            return errno = error, -1;                                                                                  \
        if (error < 0 && count > 1)                                                                                    \
            count /= 2;                                                                                                \
        return REAL(name) arguments;                                                                                   \
    }

WRITE(write, "write", (int fd, const void *data, size_t count), (fd, data, count))
WRITE(pwrite, "pwrite", (int fd, const void *data, size_t count, off_t at), (fd, data, count, at))
WRITE(pwrite64, "pwrite", (int fd, const void *data, size_t count, off64_t at), (fd, data, count, at))

#define CALL(name, call, fd, failed, parameters, arguments)                                                            \
    int name parameters                                                                                                \
    {                                                                                                                  \
        int error = fault(call, fd);                                                                                   \
        if (error > 0)                                                                                                 \
            return errno = error, (failed) ? error : -1;                                                               \
        return REAL(name) arguments;                                                                                   \
    }

CALL(fsync, "fsync", fd, 0, (int fd), (fd))
CALL(ftruncate, "truncate", fd, 0, (int fd, off_t length), (fd, length))
CALL(ftruncate64, "truncate", fd, 0, (int fd, off64_t length), (fd, length))
CALL(posix_fallocate, "fallocate", fd, 1, (int fd, off_t at, off_t length), (fd, at, length))
CALL(posix_fallocate64, "fallocate", fd, 1, (int fd, off64_t at, off64_t length), (fd, at, length))
CALL(rename, "rename", -1, 0, (const char *from, const char *to), (from, to))
CALL(renameat2, "rename", -1, 0, (int at, const char *from, int to_at, const char *to, unsigned flags), (at, from, to_at, to, flags))
CALL(unlink, "unlink", -1, 0, (const char *path), (path))
CALL(close, "close", fd, 0, (int fd), (fd))

#define OPEN(name, parameters, arguments)                                                                              \
    int name parameters                                                                                                \
    {                                                                                                                  \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        int mode = va_arg(more, int); /* whatever it is where there is none */                                         \
        va_end(more);                                                                                                  \
        int error = fault("open", -1);                                                                                 \
        if (error > 0)                                                                                                 \
            return errno = error, -1;                                                                                  \
        return REAL(name) arguments;                                                                                   \
    }

OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode))
OPEN(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode))

#define MMAP(name, offset)                                                                                             \
    void *name(void *where, size_t nbytes, int protection, int flags, int fd, offset from)                             \
    {                                                                                                                  \
        int error = fault("mmap", -1);                                                                                 \
        if (error > 0)                                                                                                 \
            return errno = error, MAP_FAILED;                                                                          \
        return REAL(name)(where, nbytes, protection, flags, fd, from);                                                 \
    }

MMAP(mmap, off_t)
MMAP(mmap64, off64_t)

/* Counts what a process does to the files below a directory, and at the Nth thing ends the process or lets it fail.
 *
 * Loaded by LD_PRELOAD. CRASH_DIR is the directory, CRASH_AT is N from 1 (0: only count), CRASH_LOG the file that gets a
 * line for each thing, and CRASH_HOW says what happens at the Nth:
 *   kill  the process is killed before it
 *   half  the process is killed when half of it is written, or before it if nothing is written
 *   full  it fails with ENOSPC, and so does all that follows but removals, as on a full disk
 *   lost  it is done, and said to have failed with EIO
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_int count;

static int below(const char *path)
{
    const char *dir = getenv("CRASH_DIR");
    size_t length = dir ? strlen(dir) : 0;
    return length && strncmp(path, dir, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int opened_below(int file)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return below(path);
}

enum what { PASSES, STOPS, FAILS, LOSES };

static enum what met(const char *call, int removes)
{
    int number = atomic_fetch_add(&count, 1) + 1, at = atoi(getenv("CRASH_AT"));
    const char *how = getenv("CRASH_HOW");
    char line[64];
    int length = snprintf(line, sizeof line, "%s\n", call);
    int log = syscall(SYS_openat, AT_FDCWD, getenv("CRASH_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0644);
    syscall(SYS_write, log, line, length);
    syscall(SYS_close, log);
    if (at > 0 && strcmp(how, "full") == 0)
        return number >= at && !removes ? FAILS : PASSES;
    if (number != at)
        return PASSES;
    return strcmp(how, "lost") == 0 ? LOSES : STOPS;
}

static void stop(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

static int lost(int done)
{
    if (done < 0)
        return done;
    errno = EIO;
    return -1;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* What is done by `call` to what is looked at as `ours`. */
#define STEP(ours, removes, name, call)                                                                                \
    REAL(name);                                                                                                        \
    switch ((ours) ? met(#name, removes) : PASSES) {                                                                   \
    case STOPS:                                                                                                        \
        stop();                                                                                                        \
    case FAILS:                                                                                                        \
        errno = ENOSPC;                                                                                                \
        return -1;                                                                                                     \
    case LOSES:                                                                                                        \
        return lost(call);                                                                                             \
    default:                                                                                                           \
        return call;                                                                                                   \
    }

int mkdir(const char *path, mode_t mode) { STEP(below(path), 0, mkdir, real(path, mode)) }
int rename(const char *from, const char *to) { STEP(below(to), 0, rename, real(from, to)) }
int link(const char *from, const char *to) { STEP(below(to), 0, link, real(from, to)) }
int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    STEP(below(to), 0, linkat, real(from_dir, from, to_dir, to, flags))
}
int unlink(const char *path) { STEP(below(path), 1, unlink, real(path)) }
int fsync(int file) { STEP(opened_below(file), 0, fsync, real(file)) }
int fdatasync(int file) { STEP(opened_below(file), 0, fdatasync, real(file)) }

/* A file whose opening is said to have failed is there, and closed. */
static int closed(int file)
{
    if (file >= 0)
        close(file);
    return lost(file);
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        mode_t mode = 0;                                                                                               \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                                           \
            va_list more;                                                                                              \
            va_start(more, flags);                                                                                     \
            mode = va_arg(more, mode_t);                                                                               \
            va_end(more);                                                                                              \
        }                                                                                                              \
        int changes = (flags & (O_CREAT | O_TRUNC)) != 0;                                                              \
        REAL(name);                                                                                                    \
        switch (changes && below(path) ? met("open", 0) : PASSES) {                                                    \
        case STOPS:                                                                                                    \
            stop();                                                                                                    \
        case FAILS:                                                                                                    \
            errno = ENOSPC;                                                                                            \
            return -1;                                                                                                 \
        case LOSES:                                                                                                    \
            return closed(real(path, flags, mode));                                                                    \
        default:                                                                                                       \
            return real(path, flags, mode);                                                                            \
        }                                                                                                              \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int file, const void *bytes, size_t size)
{
    REAL(write);
    switch (opened_below(file) ? met("write", 0) : PASSES) {
    case STOPS:
        if (strcmp(getenv("CRASH_HOW"), "half") == 0)
            real(file, bytes, size / 2);
        stop();
    case FAILS:
        errno = ENOSPC;
        return -1;
    case LOSES:
        return lost(real(file, bytes, size) < 0 ? -1 : 0);
    default:
        return real(file, bytes, size);
    }
}

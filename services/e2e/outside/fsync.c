/* Preloaded into a program: while the file named by CASELOCK_TEST_FSYNC_FAILS exists, the disk fails to write. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int sync_or_fail(const char *name, int file) {
  const char *flag = getenv("CASELOCK_TEST_FSYNC_FAILS");
  if (flag && access(flag, F_OK) == 0) {
    errno = EIO;
    return -1;
  }
  return ((int (*)(int))dlsym(RTLD_NEXT, name))(file);
}

int fsync(int file) { return sync_or_fail("fsync", file); }
int fdatasync(int file) { return sync_or_fail("fdatasync", file); }

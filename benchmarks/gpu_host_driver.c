/* A libcuda that computes nothing: what a launch costs the host beside the driver's own work.

Memory is the host's, calls succeed, kernels are not run.  Copies that a device would make while the host goes on, from
and to page-locked memory and on the device, are not made.  The names are those of the CUDA driver API. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int status;
typedef unsigned long long address;

enum { OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201 };
static char primary;
static _Thread_local void *stack[64];
static _Thread_local int depth;

status cuInit(unsigned flags) { return 0; }
status cuDriverGetVersion(int *version) { *version = 13000; return 0; }
status cuDeviceGetCount(int *count) { *count = 1; return 0; }
status cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
status cuDeviceGetName(char *name, int length, int device) { strncpy(name, "a driver that does nothing", length); return 0; }
status cuDeviceGetUuid(char *uuid, int device) { memset(uuid, 7, 16); return 0; }
status cuDeviceTotalMem(size_t *bytes, int device) { *bytes = (size_t)80 << 30; return 0; }
status cuMemGetInfo(size_t *available, size_t *total) { *available = *total = (size_t)80 << 30; return 0; }

status cuDeviceGetAttribute(int *value, int attribute, int device) {
  switch (attribute) {
    case 1: *value = 1024; break;    /* threads in a block */
    case 8: *value = 48 << 10; break; /* shared memory of a block */
    case 10: *value = 32; break;     /* threads in a warp */
    case 16: *value = 132; break;    /* multiprocessors */
    case 75: *value = 9; break;      /* compute capability */
    case 76: *value = 0; break;
    case 97: *value = 227 << 10; break; /* shared memory of a block that asks for it */
    default: *value = 1;
  }
  return 0;
}

status cuDevicePrimaryCtxRetain(void **context, int device) { *context = &primary; return 0; }
status cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *flags = 0; *active = 1; return 0; }
status cuCtxGetCurrent(void **context) { *context = depth ? stack[depth - 1] : 0; return 0; }
status cuCtxSetCurrent(void *context) {
  if (!depth) depth = 1;
  stack[depth - 1] = context;
  if (!context) depth--;
  return 0;
}
status cuCtxPushCurrent(void *context) { stack[depth++] = context; return 0; }
status cuCtxPopCurrent(void **context) {
  if (!depth) return INVALID_CONTEXT;
  *context = stack[--depth];
  return 0;
}
status cuCtxGetDevice(int *device) { *device = 0; return depth ? 0 : INVALID_CONTEXT; }
status cuCtxGetApiVersion(void *context, unsigned *version) { *version = 13000; return 0; }
status cuStreamIsCapturing(void *stream, int *state) { *state = 0; return 0; }
status cuStreamCreate(void **stream, unsigned flags) { *stream = malloc(8); return 0; }
status cuStreamGetCtx(void *stream, void **context) { *context = &primary; return 0; }
status cuEventCreate(void **event, unsigned flags) { *event = &primary; return 0; }

status cuLibraryLoadData(void **library, const void *code, void *a, void *b, unsigned c, void *d, void *e, unsigned f) {
  *library = &primary;
  return 0;
}
status cuLibraryGetKernel(void **kernel, void *library, const char *name) { *kernel = &primary; return 0; }
status cuLaunchKernel(void *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *stream, void **arguments, void **extra) {
  return depth ? 0 : INVALID_CONTEXT;
}

status cuMemAlloc(address *memory, size_t bytes) { *memory = (address)calloc(1, bytes ? bytes : 1); return 0; }

enum { MOST_PINNED = 64 };
static struct { char *start, *end; } pinned[MOST_PINNED];

static int is_pinned(const void *memory) {
  for (int k = 0; k < MOST_PINNED; k++)
    if (pinned[k].start <= (char *)memory && (char *)memory < pinned[k].end) return 1;
  return 0;
}
status cuMemHostAlloc(void **memory, size_t bytes, unsigned flags) {
  *memory = malloc(bytes);
  memset(*memory, 0, bytes);
  for (int k = 0; k < MOST_PINNED; k++)
    if (!pinned[k].start) {
      pinned[k].start = *memory, pinned[k].end = (char *)*memory + bytes;
      return 0;
    }
  return OUT_OF_MEMORY;
}
status cuMemFreeHost(void *memory) {
  for (int k = 0; k < MOST_PINNED; k++)
    if (pinned[k].start == memory) pinned[k].start = pinned[k].end = 0;
  free(memory);
  return 0;
}
status cuMemFree(address memory) { free((void *)memory); return 0; }
status cuMemcpyHtoD(address to, const void *from, size_t bytes) { memcpy((void *)to, from, bytes); return 0; }
status cuMemcpyHtoDAsync(address to, const void *from, size_t bytes, void *stream) {
  return is_pinned(from) ? 0 : cuMemcpyHtoD(to, from, bytes);
}
status cuMemcpyDtoH(void *to, address from, size_t bytes) { memcpy(to, (void *)from, bytes); return 0; }
status cuMemcpyDtoHAsync(void *to, address from, size_t bytes, void *stream) {
  return is_pinned(to) ? 0 : cuMemcpyDtoH(to, from, bytes);
}
status cuMemcpyDtoDAsync(address to, address from, size_t bytes, void *stream) { return 0; }
status cuPointerGetAttribute(void *value, int attribute, address pointer) { *(int *)value = 0; return 0; }
status cuGetErrorName(int error, const char **text) { *text = "CUDA_ERROR"; return 0; }
status cuGetErrorString(int error, const char **text) { *text = "an error"; return 0; }

static status nothing(void) { return 0; }

#define ENTRY(name) {#name, (void *)name}
static const struct { const char *name; void *function; } functions[] = {
  ENTRY(cuInit), ENTRY(cuDriverGetVersion), ENTRY(cuDeviceGetCount), ENTRY(cuDeviceGet), ENTRY(cuDeviceGetName),
  ENTRY(cuDeviceGetUuid), ENTRY(cuDeviceTotalMem), ENTRY(cuMemGetInfo), ENTRY(cuDeviceGetAttribute),
  ENTRY(cuDevicePrimaryCtxRetain), ENTRY(cuDevicePrimaryCtxGetState), ENTRY(cuCtxGetCurrent), ENTRY(cuCtxSetCurrent),
  ENTRY(cuCtxPushCurrent), ENTRY(cuCtxPopCurrent), ENTRY(cuCtxGetDevice), ENTRY(cuCtxGetApiVersion),
  ENTRY(cuStreamIsCapturing), ENTRY(cuStreamCreate), ENTRY(cuStreamGetCtx), ENTRY(cuEventCreate),
  ENTRY(cuLibraryLoadData), ENTRY(cuLibraryGetKernel), ENTRY(cuLaunchKernel), ENTRY(cuMemAlloc), ENTRY(cuMemFree),
  ENTRY(cuMemHostAlloc), ENTRY(cuMemFreeHost), ENTRY(cuMemcpyHtoD), ENTRY(cuMemcpyHtoDAsync), ENTRY(cuMemcpyDtoH), ENTRY(cuMemcpyDtoHAsync),
  ENTRY(cuMemcpyDtoDAsync), ENTRY(cuPointerGetAttribute), ENTRY(cuGetErrorName), ENTRY(cuGetErrorString)};

status cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *found) {
  *function = (void *)nothing;
  if (found) *found = 0;
  if (!strcmp(name, "cuGetProcAddress")) *function = (void *)cuGetProcAddress_v2;
  for (size_t k = 0; k < sizeof functions / sizeof *functions; k++)
    if (!strcmp(name, functions[k].name)) *function = functions[k].function;
  return 0;
}
status cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, 0);
}

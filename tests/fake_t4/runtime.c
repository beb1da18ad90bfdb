// A CUDA runtime that says: one Tesla T4 (sm75, 14.57 GiB, as Colab's). No kernel ever runs; tensors without data need none.
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>
#define SAYS_YES(name, ...) cudaError_t name(__VA_ARGS__) { return cudaSuccess; }
static const size_t total = 15642329088ull, unused = 15535833088ull;
cudaError_t cudaGetDeviceCount(int *n) { *n = 1; return 0; }
cudaError_t cudaGetDevice(int *d) { *d = 0; return 0; }
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int d) {
  memset(p, 0, sizeof *p);
  strcpy(p->name, "Tesla T4");
  p->major = 7; p->minor = 5; p->totalGlobalMem = total; p->multiProcessorCount = 40; p->warpSize = 32;
  p->maxThreadsPerMultiProcessor = 1024; p->maxThreadsPerBlock = 1024; p->sharedMemPerBlock = 49152;
  p->sharedMemPerBlockOptin = 65536; p->regsPerMultiprocessor = 65536; p->l2CacheSize = 4194304;
  return 0;
}
cudaError_t cudaMemGetInfo(size_t *f, size_t *t) { *f = unused; *t = total; return 0; }
cudaError_t cudaDeviceGetAttribute(int *v, enum cudaDeviceAttr a, int d) {
  *v = a == cudaDevAttrComputeCapabilityMajor ? 7 : a == cudaDevAttrComputeCapabilityMinor ? 5 : 0;
  return 0;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int *l, int *g) { *l = 0; *g = -3; return 0; }
cudaError_t cudaDriverGetVersion(int *v) { *v = CUDART_VERSION; return 0; }
cudaError_t cudaRuntimeGetVersion(int *v) { *v = CUDART_VERSION; return 0; }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned f, int p) { *s = malloc(8); return 0; }
cudaError_t cudaStreamIsCapturing(cudaStream_t s, enum cudaStreamCaptureStatus *c) { *c = 0; return 0; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned f) { *e = malloc(8); return 0; }
SAYS_YES(cudaSetDevice, int d)
SAYS_YES(cudaDeviceSynchronize, void)
SAYS_YES(cudaGetLastError, void)
SAYS_YES(cudaPeekAtLastError, void)
SAYS_YES(cudaStreamSynchronize, cudaStream_t s)
SAYS_YES(cudaStreamQuery, cudaStream_t s)
SAYS_YES(cudaStreamWaitEvent, cudaStream_t s, cudaEvent_t e, unsigned f)
SAYS_YES(cudaEventRecord, cudaEvent_t e, cudaStream_t s)
SAYS_YES(cudaEventQuery, cudaEvent_t e)
SAYS_YES(cudaEventSynchronize, cudaEvent_t e)
SAYS_YES(cudaEventDestroy, cudaEvent_t e)

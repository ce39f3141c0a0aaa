/* NVRTC, which compiles kernels at run time: programs are accepted and not compiled, since they are not run. What is
   compiled is one zero byte. Parameters that do not matter are left out.

   PyTorch opens this library by its name, so it is one of its own (build.py), with the name of the real one. */
#include <cuda_runtime_api.h>
#include <stddef.h>
#include <string.h>

int nvrtcVersion(int *major, int *minor)
{
    *major = CUDART_VERSION / 1000; /* it comes with the runtime of its version */
    *minor = CUDART_VERSION % 1000 / 10;
    return 0;
}

const char *nvrtcGetErrorString(int error) { return error ? "not supported by harness dry-run" : "success"; }
int nvrtcCreateProgram(void **program) { return *program = (void *)0x1000, 0; }
int nvrtcDestroyProgram(void) { return 0; }
int nvrtcAddNameExpression(void) { return 0; }
int nvrtcGetLoweredName(void *program, const char *name, const char **lowered) { return *lowered = strdup(name), 0; }
int nvrtcCompileProgram(void) { return 0; }
int __nvrtcCPEx(void) { return 0; } /* cuDNN 9.10 looks it up; no header has it */

int nvrtcGetPTXSize(void *program, size_t *size) { return *size = 1, 0; }
int nvrtcGetPTX(void *program, char *text) { return *text = 0, 0; }
int nvrtcGetCUBINSize(void *program, size_t *size) { return *size = 1, 0; }
int nvrtcGetCUBIN(void *program, char *text) { return *text = 0, 0; }
int nvrtcGetProgramLogSize(void *program, size_t *size) { return *size = 1, 0; }
int nvrtcGetProgramLog(void *program, char *text) { return *text = 0, 0; }

/* NVRTC, which compiles kernels at run time: programs are accepted and not compiled, since they are not run.

   PyTorch opens this library by its name, so it is one of its own (build.py), with the name of the real one. */
#include <cuda_runtime_api.h>
#include <nvrtc.h>

nvrtcResult nvrtcVersion(int *major, int *minor)
{
    *major = CUDART_VERSION / 1000; /* it comes with the runtime of its version */
    *minor = CUDART_VERSION % 1000 / 10;
    return NVRTC_SUCCESS;
}

const char *nvrtcGetErrorString(nvrtcResult error) { return error ? "not supported by harness dry-run" : "success"; }

nvrtcResult nvrtcCreateProgram(nvrtcProgram *program, const char *source, const char *name, int headers,
                               const char *const *header_sources, const char *const *header_names)
{
    *program = (nvrtcProgram)0x1000;
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcDestroyProgram(nvrtcProgram *program) { return NVRTC_SUCCESS; }

nvrtcResult nvrtcAddNameExpression(nvrtcProgram program, const char *name) { return NVRTC_SUCCESS; }

nvrtcResult nvrtcGetLoweredName(nvrtcProgram program, const char *name, const char **lowered)
{
    *lowered = "kernel";
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcCompileProgram(nvrtcProgram program, int count, const char *const *options) { return NVRTC_SUCCESS; }
int __nvrtcCPEx(void) { return NVRTC_SUCCESS; } /* cuDNN 9.10 looks it up; no header has it */

/* Whatever is compiled is one zero byte. */
static nvrtcResult one(size_t *size)
{
    *size = 1;
    return NVRTC_SUCCESS;
}

static nvrtcResult empty(char *text)
{
    *text = 0;
    return NVRTC_SUCCESS;
}

nvrtcResult nvrtcGetPTXSize(nvrtcProgram program, size_t *size) { return one(size); }
nvrtcResult nvrtcGetPTX(nvrtcProgram program, char *text) { return empty(text); }
nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, size_t *size) { return one(size); }
nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char *text) { return empty(text); }
nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t *size) { return one(size); }
nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char *text) { return empty(text); }

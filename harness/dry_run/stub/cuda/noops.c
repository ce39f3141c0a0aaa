/* Functions for which doing nothing, successfully, is right: they order work that is not run, write device
   memory that nobody reads, or set what has no effect on memory. No header of NVIDIA's is included, because the
   parameters do not matter. Functions that are in no file of this folder are refused by name (build.py). */
#include "pretend.h"

#define SUCCEEDS(name) int name(void) { return 0; }

/* The same, of a function that writes device memory on a GPU, makes a handle, answers 0, describes an error. */
#define WRITES(name) int name(void) { pretend_wrote(); return 0; }
#define MAKES(name) int name(void **made) { *made = pretend_handle(); return 0; }
#define ZERO(name, type) int name(void *handle, type *value) { *value = 0; return 0; }
#define ERROR_TEXT(name) const char *name(int error) { return error ? "not supported by harness dry-run" : "success"; }

/* Runtime: waiting for work. Everything is done at once. */
SUCCEEDS(cudaStreamQuery)
SUCCEEDS(cudaStreamDestroy)
MAKES(cudaStreamCreate)
MAKES(cudaStreamCreateWithFlags)
MAKES(cudaStreamCreateWithPriority)
ZERO(cudaStreamGetPriority, int)
MAKES(cudaEventCreate)
MAKES(cudaEventCreateWithFlags)
SUCCEEDS(cudaEventSynchronize)
SUCCEEDS(cudaEventDestroy)

/* Runtime: writing device memory. */
WRITES(cudaMemcpyPeerAsync)
WRITES(cudaMemcpyToSymbol)

/* Runtime: kernels are registered when PyTorch is loaded; one launch pushes and pops its grid. */
SUCCEEDS(__cudaRegisterFatBinary)
SUCCEEDS(__cudaRegisterFatBinaryEnd)
SUCCEEDS(__cudaRegisterFunction)
SUCCEEDS(__cudaRegisterVar)
SUCCEEDS(__cudaRegisterManagedVar)
SUCCEEDS(__cudaInitModule)
SUCCEEDS(__cudaUnregisterFatBinary)
SUCCEEDS(__cudaPushCallConfiguration)
SUCCEEDS(__cudaPopCallConfiguration)
SUCCEEDS(cudaFuncSetAttribute)
SUCCEEDS(cudaFuncSetCacheConfig)
SUCCEEDS(cudaKernelSetAttributeForDevice)
SUCCEEDS(cudaDeviceSetLimit)
SUCCEEDS(cudaProfilerStart)
SUCCEEDS(cudaProfilerStop)

/* Driver, with kernels that are compiled at run time (nvrtc.c, Triton). */
MAKES(cuModuleLoad)
MAKES(cuModuleLoadData)
MAKES(cuModuleGetFunction)
MAKES(cuLibraryLoadData)
MAKES(cuLibraryGetKernel)
MAKES(cuKernelGetFunction)
SUCCEEDS(cuMemMap)
SUCCEEDS(cuMemUnmap)
SUCCEEDS(cuMemSetAccess)
SUCCEEDS(cuCtxSetCurrent)
SUCCEEDS(cuCtxPushCurrent)
SUCCEEDS(cuCtxPopCurrent)
SUCCEEDS(cuCtxSetLimit)
SUCCEEDS(cuFuncSetAttribute)
SUCCEEDS(cuFuncSetCacheConfig)
SUCCEEDS(cuModuleUnload)
SUCCEEDS(cuLibraryUnload)
SUCCEEDS(cuLinkCreate) /* cuDNN looks these up, and calls none of them where nothing is executed */
SUCCEEDS(cuLinkAddData)
SUCCEEDS(cuLinkDestroy)
SUCCEEDS(cuGetErrorName)
SUCCEEDS(cuStreamGetCtx)
SUCCEEDS(cuLibraryLoadFromFile)
SUCCEEDS(cuKernelSetAttribute)
SUCCEEDS(cuKernelGetAttribute)
SUCCEEDS(cuOccupancyMaxPotentialClusterSize)
WRITES(cuMemsetD32Async)
SUCCEEDS(cuLogsRegisterCallback)
SUCCEEDS(cuLogsUnregisterCallback)

/* cuDNN: work on given memory, and descriptors whose contents do not matter. */
MAKES(cudnnCreate)
SUCCEEDS(cudnnDestroy)
ZERO(cudnnGetStream, void *)
ERROR_TEXT(cudnnGetErrorString)
SUCCEEDS(cudnnSetTensorNdDescriptor)
SUCCEEDS(cudnnSetFilterNdDescriptor)
SUCCEEDS(cudnnSetStream)
WRITES(cudnnConvolutionForward)
WRITES(cudnnConvolutionBackwardData)
WRITES(cudnnConvolutionBackwardFilter)
WRITES(cudnnConvolutionBiasActivationForward)
WRITES(cudnnBatchNormalizationForwardTrainingEx)
WRITES(cudnnBatchNormalizationForwardInference)
WRITES(cudnnBatchNormalizationBackwardEx)
WRITES(cudnnRNNForward)
WRITES(cudnnRNNBackwardData_v8)
WRITES(cudnnRNNBackwardWeights_v8)
WRITES(cudnnCTCLoss)
WRITES(cudnnCTCLoss_v8)
WRITES(cudnnPoolingForward)
WRITES(cudnnSpatialTfGridGeneratorForward)
WRITES(cudnnSpatialTfGridGeneratorBackward)
WRITES(cudnnSpatialTfSamplerForward)
WRITES(cudnnSpatialTfSamplerBackward)
SUCCEEDS(cudnnSetActivationDescriptor)
SUCCEEDS(cudnnSetConvolutionGroupCount)
SUCCEEDS(cudnnSetConvolutionMathType)
SUCCEEDS(cudnnSetConvolutionNdDescriptor)
SUCCEEDS(cudnnSetCTCLossDescriptorEx)
SUCCEEDS(cudnnSetCTCLossDescriptor_v9)
WRITES(cudnnSetDropoutDescriptor)
SUCCEEDS(cudnnRestoreDropoutDescriptor)
SUCCEEDS(cudnnSetPooling2dDescriptor)
SUCCEEDS(cudnnSetSpatialTransformerNdDescriptor)

/* cuSOLVER and cuBLAS work on given memory only: build.py lets all of their functions succeed that are not
   written out, except questions for a buffer's size (sizes.c). */
MAKES(cusolverDnCreate)
MAKES(cusolverDnCreateParams)
MAKES(cusolverDnCreateGesvdjInfo)
MAKES(cublasCreate_v2)
ZERO(cublasGetMathMode, int)
ZERO(cublasGetPointerMode_v2, int)
MAKES(cublasLtCreate)
MAKES(cublasLtMatmulDescCreate)
MAKES(cublasLtMatrixLayoutCreate)
MAKES(cublasLtMatmulPreferenceCreate)

/* cuSPARSE: likewise, of what dense training and PyTorch's sparse matmul call. */
MAKES(cusparseCreate)
MAKES(cusparseCreateMatDescr)
MAKES(cusparseCreateCsr)
MAKES(cusparseCreateCoo)
MAKES(cusparseCreateDnMat)
MAKES(cusparseCreateDnVec)
ERROR_TEXT(cusparseGetErrorString)
SUCCEEDS(cusparseDestroy)
SUCCEEDS(cusparseSetStream)
SUCCEEDS(cusparseSetPointerMode)
SUCCEEDS(cusparseDestroyDnMat)
SUCCEEDS(cusparseDestroyDnVec)
SUCCEEDS(cusparseDestroySpMat)
SUCCEEDS(cusparseDestroyMatDescr)
SUCCEEDS(cusparseCsrSetPointers)
SUCCEEDS(cusparseCsrSetStridedBatch)
SUCCEEDS(cusparseDnMatSetStridedBatch)
SUCCEEDS(cusparseSpMatSetAttribute)
WRITES(cusparseSpMM)
WRITES(cusparseSpMV)
WRITES(cusparseSDDMM)
WRITES(cusparseSDDMM_preprocess)
WRITES(cusparseXcoo2csr)
WRITES(cusparseXcoosortByRow)
WRITES(cusparseXcsrsort)
WRITES(cusparseCreateIdentityPermutation)
SUCCEEDS(cusparseSetMatDiagType)
SUCCEEDS(cusparseSetMatFillMode)
SUCCEEDS(cusparseSetMatIndexBase)
SUCCEEDS(cusparseSetMatType)

/* cuFFT. */
SUCCEEDS(cufftDestroy)
SUCCEEDS(cufftSetStream)
SUCCEEDS(cufftSetAutoAllocation)
SUCCEEDS(cufftSetWorkArea)
WRITES(cufftXtExec)

/* NCCL. */
ZERO(ncclCommGetAsyncError, int)
ERROR_TEXT(ncclGetErrorString)
SUCCEEDS(ncclCommAbort)
SUCCEEDS(ncclCommDestroy)
SUCCEEDS(ncclCommFinalize)
SUCCEEDS(ncclCommDeregister)
SUCCEEDS(ncclCommRegister)
SUCCEEDS(ncclGroupStart)
SUCCEEDS(ncclRedOpCreatePreMulSum)
SUCCEEDS(ncclRedOpDestroy)
SUCCEEDS(ncclBcast)
SUCCEEDS(ncclBroadcast)
SUCCEEDS(ncclSend)

/* CUPTI, of which PyTorch's profiler asks for kernels: build.py lets all of its functions succeed. */
MAKES(cuptiSubscribe)
int cuptiGetVersion(unsigned *version) { return *version = 0; }
int cuptiGetResultString(int result, const char **text) { return *text = "", 0; }
int cuptiGetCallbackName(int domain, unsigned callback, const char **name) { return *name = "", 0; }

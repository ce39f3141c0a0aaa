/* cuFFT: plans. Its work area is known to cuFFT alone; NVIDIA's guide says one to eight copies of the transform's
   complex elements, and none in some cases. One is taken. */
#include "pretend.h"

#include <library_types.h>

/* cufft.h includes files of nvcc, which pip does not install. */
int cufftCreate(int *plan)
{
    static int next;
    *plan = __sync_add_and_fetch(&next, 1);
    return 0;
}

int cufftXtMakePlanMany(int plan, int rank, long long int *n, long long int *input_embed, long long int input_stride,
                        long long int input_distance, cudaDataType input_type, long long int *output_embed,
                        long long int output_stride, long long int output_distance, cudaDataType output_type,
                        long long int batch, size_t *work_bytes, cudaDataType execution_type)
{
    size_t elements = (size_t)batch;
    for (int i = 0; i < rank; i++)
        elements *= (size_t)n[i];
    int wide = execution_type == CUDA_C_64F || execution_type == CUDA_R_64F;
    *work_bytes = elements * (wide ? 16 : 8);
    answers.kinds |= CUFFT;
    return 0;
}

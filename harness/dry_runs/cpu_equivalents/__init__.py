"""CPU functions for the operators that CUDA alone has, entered in one table by family."""

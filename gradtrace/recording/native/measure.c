/* Measuring a tensor, as stats/measure.py does. */

#include "fields.h"
#include "native.h"

#include <math.h>

typedef void Reduce(const void *, int64_t, double *);
Reduce reduce_float32, reduce_float64, reduce_bfloat16; /* reduce.c */

#define DIMENSIONS 64
#define LONG 65536 /* elements; while so many are reduced, other threads may run */

static int is_watched(void) {
    int is = truth(PyObject_CallNoArgs(g_has_dispatch_modes));
    if (!is) is = truth(PyObject_CallNoArgs(g_has_modes));
    if (is) return is;
    if (PyDict_GetItemWithError(g_profiler, s__is_profiler_enabled) == Py_True) return 1;
    PyObject *state = PyObject_CallNoArgs(g_tracing_state);
    Py_XDECREF(state);
    return state ? state != Py_None : -1;
}

/* The Kind of a plain tensor on the CPU, borrowed; NULL where it is another tensor, or of a new kind. */
static PyObject *known_kind(PyObject *tensor) {
    PyObject *type = (PyObject *)Py_TYPE(tensor), *kind = NULL;
    if (type != g_Tensor && type != g_Parameter) return NULL;
    PyObject *is_cpu = PyObject_GetAttr(tensor, s_is_cpu), *layout = PyObject_GetAttr(tensor, s_layout);
    if (is_cpu == Py_True && layout == g_strided) {
        PyObject *shape = PyObject_GetAttr(tensor, s_shape), *dtype = PyObject_GetAttr(tensor, s_dtype);
        PyObject *key = shape && dtype ? PyTuple_Pack(3, shape, dtype, s_cpu) : NULL;
        if (key) kind = PyDict_GetItemWithError(g_kinds, key);
        Py_XDECREF(key);
        Py_XDECREF(shape);
        Py_XDECREF(dtype);
    }
    Py_XDECREF(is_cpu);
    Py_XDECREF(layout);
    return kind;
}

/* Bytes from the first element in memory to the last, holes between them included; -1 where it raised. */
static int64_t extent_of(PyObject *tensor, int is_contiguous) {
    if (is_contiguous) return is_contiguous < 0 ? -1 : integer(PyObject_GetAttr(tensor, s_nbytes));
    PyObject *strides = call(tensor, s_stride), *shape = PyObject_GetAttr(tensor, s_shape);
    int64_t extent = strides && shape ? 1 : -1;
    for (Py_ssize_t i = 0; extent > 0 && i < PyTuple_Size(shape); i++)
        extent += (PyLong_AsLongLong(PyTuple_GetItem(shape, i)) - 1) * PyLong_AsLongLong(PyTuple_GetItem(strides, i));
    Py_XDECREF(strides);
    Py_XDECREF(shape);
    return PyErr_Occurred() ? -1 : extent * integer(call(tensor, s_element_size));
}

/* Where the first element is; 0 unless the storage has memory for all that the tensor claims to have. It was freed,
   as sharded models do, or made smaller, or there never was any: autograd keeps a tensor as "all zeros". */
static int64_t address_of(PyObject *tensor, int is_contiguous) {
    int64_t address = integer(call(tensor, s_data_ptr));
    PyObject *storage = address > 0 ? call(tensor, s_untyped_storage) : NULL;
    if (!storage) return 0;
    int64_t start = integer(call(storage, s_data_ptr)), size = start > 0 ? integer(call(storage, s_nbytes)) : -1;
    Py_DECREF(storage);
    if (start <= 0 || size <= 0 || address < start) return 0;
    int64_t extent = extent_of(tensor, is_contiguous);
    return extent >= 0 && extent <= size - (address - start) ? address : 0;
}

static Reduce *kernel_of(PyObject *dtype) {
    return dtype == g_float32 ? reduce_float32 : dtype == g_float64 ? reduce_float64 : reduce_bfloat16;
}

/* Where the elements are: strides and sizes, in elements, the innermost first, whose stride is 1. */
typedef struct {
    const char *at;
    int64_t item; /* bytes */
    int count;
    int64_t strides[DIMENSIONS], sizes[DIMENSIONS];
} Runs;

static void reduce_runs(Reduce *reduce, const Runs *runs, int level, const char *at, double *found) {
    if (!level) {
        reduce(at, runs->sizes[0], found);
        return;
    }
    for (int64_t i = 0; i < runs->sizes[level]; i++)
        reduce_runs(reduce, runs, level - 1, at + i * runs->strides[level] * runs->item, found);
}

static void run_kernel(PyObject *dtype, const Runs *runs, double *found) {
    Reduce *reduce = kernel_of(dtype);
    int64_t size = 1;
    for (int k = 0; k < FIELDS; k++) found[k] = 0;
    found[LOW] = HUGE_VAL;
    found[HIGH] = -HUGE_VAL;
    for (int k = 0; k < runs->count; k++) size *= runs->sizes[k];
    if (size < LONG) {
        reduce_runs(reduce, runs, runs->count - 1, runs->at, found);
    } else {
        Py_BEGIN_ALLOW_THREADS;
        reduce_runs(reduce, runs, runs->count - 1, runs->at, found);
        Py_END_ALLOW_THREADS;
    }
}

/* Reduce a tensor and return its norm; -1 where its memory is not one piece, or its norm needs more than float64. */
static double reduce_tensor(PyObject *tensor, int64_t *size, double *f) {
    if (truth(call(tensor, s_is_contiguous)) != 1 || truth(call(tensor, s_is_neg)) != 0) return -1;
    int64_t address = address_of(tensor, 1);
    if (!address) return -1;
    *size = integer(call(tensor, s_numel));
    PyObject *dtype = PyObject_GetAttr(tensor, s_dtype);
    if (*size < 0 || !dtype) return -1;
    Py_DECREF(dtype); /* torch keeps it */
    Runs runs = {.at = (const char *)(intptr_t)address, .count = 1, .sizes = {*size}};
    run_kernel(dtype, &runs, f);
    double norm = sqrt(f[SQUARES]);
    if (dtype == g_float64 && (f[LOW] || f[HIGH]) && !(norm > 1e-150 && norm < HUGE_VAL)) return -1;
    return norm;
}

/* The Sums of a tensor; NULL where it can't be reduced. */
static PyObject *sums_of(PyObject *tensor) {
    double f[FIELDS];
    int64_t size;
    double norm = reduce_tensor(tensor, &size, f);
    if (norm < 0) return NULL;
    PyObject *fields = Py_BuildValue(
        "LiddddLLL", (long long)f[FINITE], 1, f[LOW], f[HIGH], f[TOTAL], norm, (long long)(size - (int64_t)f[ZEROS]),
        (long long)f[NANS], (long long)f[INFS]
    );
    PyObject *sums = fields ? PyObject_CallFunctionObjArgs(g_new_tuple, g_Sums, fields, NULL) : NULL;
    Py_XDECREF(fields);
    return sums;
}

/* A new list of a kind, and what was found, which is taken over. */
static PyObject *measured_of(PyObject *kind, PyObject *found) {
    PyObject *measured = plain(PyList_New(2));
    if (!measured) {
        Py_DECREF(found);
        return NULL;
    }
    Py_INCREF(kind);
    PyList_SetItem(measured, 0, kind);
    PyList_SetItem(measured, 1, found);
    return measured;
}

PyObject *measure(PyObject *tensor) {
    int watched = is_watched();
    if (watched < 0) return NULL;
    PyObject *kind = watched ? NULL : known_kind(tensor), *found = NULL;
    if (kind) {
        PyObject *route = PyTuple_GetItem(kind, 3);
        if (route == g_SMALL_CPU && address_of(tensor, truth(call(tensor, s_is_contiguous)))) found = call(tensor, s_tolist);
        if (route == g_NATIVE_ROUTE) found = sums_of(tensor);
        if (found) return measured_of(kind, found);
    }
    return !forget_error() ? NULL : PyObject_CallFunctionObjArgs(g_measure_in_python, tensor, NULL);
}

PyObject *reduce_strided(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *dtype, *pairs;
    long long address, item;
    if (!PyArg_ParseTuple(args, "OLLO!", &dtype, &address, &item, &PyTuple_Type, &pairs)) return NULL;
    Runs runs = {.at = (const char *)(intptr_t)address, .item = item, .count = (int)PyTuple_Size(pairs)};
    if (runs.count < 1 || runs.count > DIMENSIONS) return PyErr_Format(PyExc_RuntimeError, "%d runs", runs.count);
    for (int k = 0; k < runs.count; k++) {
        long long stride, size;
        if (!PyArg_ParseTuple(PyTuple_GetItem(pairs, k), "LL", &stride, &size)) return NULL;
        runs.strides[k] = stride;
        runs.sizes[k] = size;
    }
    double f[FIELDS];
    run_kernel(dtype, &runs, f);
    return Py_BuildValue("dddddddd", f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7]);
}

/* Whether a tensor is a plain one in memory that a kernel can read; its kind, which a norm does not need, is not asked. */
static int is_readable(PyObject *tensor) {
    if ((PyObject *)Py_TYPE(tensor) != g_Tensor) return 0;
    PyObject *is_cpu = PyObject_GetAttr(tensor, s_is_cpu), *layout = PyObject_GetAttr(tensor, s_layout);
    PyObject *dtype = PyObject_GetAttr(tensor, s_dtype);
    int is = is_cpu == Py_True && layout == g_strided && (dtype == g_float32 || dtype == g_float64 || dtype == g_bfloat16);
    Py_XDECREF(is_cpu);
    Py_XDECREF(layout);
    Py_XDECREF(dtype);
    return is;
}

/* The norm of a gradient of a leaf; None where there is none; the gradient itself where Python is to find it. */
static PyObject *norm_or_grad(PyObject *leaf) {
    PyObject *grad = PyObject_GetAttr(leaf, s_grad);
    if (!grad) return NULL;
    int64_t size;
    double f[FIELDS], norm = is_readable(grad) ? reduce_tensor(grad, &size, f) : -1;
    if (norm < 0 && forget_error()) return grad;
    Py_DECREF(grad);
    return norm < 0 ? NULL : PyFloat_FromDouble(f[FINITE] ? norm : NAN);
}

/* norms_of(pairs): see grads_of in backward/leaf_grads.py. */
PyObject *norms_of(PyObject *module, PyObject *pairs) {
    (void)module;
    int watched = is_watched();
    PyObject *found = watched < 0 ? NULL : PyList_New(0);
    for (Py_ssize_t i = 0; found && i < PyList_Size(pairs); i++) {
        PyObject *leaf = PyTuple_GetItem(PyList_GetItem(pairs, i), 0);
        PyObject *norm = watched ? PyObject_GetAttr(leaf, s_grad) : norm_or_grad(leaf);
        if (!norm || PyList_Append(found, norm)) Py_CLEAR(found);
        Py_XDECREF(norm);
    }
    return found;
}

int is_shareable(PyObject *measured) {
    PyObject *kind = PyList_GetItem(measured, 0), *route = kind ? PyTuple_GetItem(kind, 3) : NULL;
    return route && PyLong_AsLong(route) >= PyLong_AsLong(g_DEVICE);
}

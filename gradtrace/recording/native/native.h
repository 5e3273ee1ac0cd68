/* What runs for each op of the script, compiled: measuring a tensor, the hook after a node, the mode around a call.

   Each source has the name of its Python twin: measure.c and reduce.c of stats/, post_hook.c of backward/, mode.c of
   forward/, graph.c and saved_tensors.c of autograd/. It leaves to the twin whatever is not the plain case; the twin
   also runs where nothing was compiled, and the tests hold the two against each other. Only Python's limited API is
   used: one library serves each Python from 3.11. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <structmember.h>

#include <stdint.h>

/* To be counted up here and in loader.py when what one side expects of the other changes. */
#define INTERFACE 3

/* Names of attributes, made once. */
#define NAMES(X) \
    X(AccumulateGrad) X(__name__) X(_is_profiler_enabled) X(_log) X(_measure) X(_note) X(_post_accumulate_grad_hooks) X(_recent) X(_show) X(_version) \
    X(calls) X(clear) X(closed) X(co_filename) X(cpu) X(data_ptr) X(dtype) X(element_size) X(f_code) X(f_lasti) X(grad) X(is_contiguous) \
    X(grad_fn) X(_sequence_nr) X(is_cpu) X(is_neg) X(is_nested) X(layout) X(nbytes) X(next_functions) X(numel) X(on_full) X(output_nr) X(requires_grad) X(shape) X(stride) X(tolist) \
    X(untyped_storage) X(variable) X(call_observer)
#define DECLARE(name) extern PyObject *s_##name;
NAMES(DECLARE)

/* What Python hands over in setup(). */
#define GIVEN(X) \
    X(Tensor) X(Parameter) X(strided) X(float32) X(float64) X(bfloat16) X(kinds) X(SMALL_CPU) X(DEVICE) X(NATIVE_ROUTE) X(Sums) \
    X(new_tuple) X(measure_in_python) X(same_memory) X(has_dispatch_modes) X(has_modes) X(profiler) X(tracing_state) \
    X(AccumulateGrad) X(fields) X(kept_new) X(task) X(sequence_number) X(trusted) X(original_of) X(owners) X(USER) X(outermost) X(find_user_place)
#define DECLARE_GIVEN(name) extern PyObject *g_##name;
GIVEN(DECLARE_GIVEN)

/* Each NULL where it raised; references are new. */
PyObject *measure(PyObject *tensor);
PyObject *reduce_strided(PyObject *module, PyObject *args);
PyObject *saved_by(PyObject *module, PyObject *node);
PyObject *walk_on(PyObject *module, PyObject *args);
PyObject *trusted_below(PyObject *module, PyObject *args);
PyObject *norms_of(PyObject *module, PyObject *pairs);
int is_shareable(PyObject *measured); /* whether it may stand for a view of the same elements, too */
extern PyType_Spec post_hook_spec, mode_spec;

/* Whether what a call returned is true; -1 where it raised. */
static inline int truth(PyObject *found) {
    if (!found) return -1;
    int is = PyObject_IsTrue(found);
    Py_DECREF(found);
    return is;
}

/* What a call returned, as a number; -1 where it raised. */
static inline int64_t integer(PyObject *found) {
    if (!found) return -1;
    int64_t value = PyLong_AsLongLong(found);
    Py_DECREF(found);
    return value;
}

static inline PyObject *call(PyObject *object, PyObject *name) { return PyObject_CallMethodObjArgs(object, name, NULL); }

/* Forget an error that Python will meet again and deal with; not one that a signal's handler raised. */
static inline int forget_error(void) {
    if (!PyErr_Occurred()) return 1;
    if (!PyErr_ExceptionMatches(PyExc_RuntimeError) && !PyErr_ExceptionMatches(PyExc_TypeError) &&
        !PyErr_ExceptionMatches(PyExc_AttributeError) && !PyErr_ExceptionMatches(PyExc_KeyError))
        return 0;
    PyErr_Clear();
    return 1;
}

/* Hide from the garbage collector what can be part of no cycle; there are several of these for each op. */
static inline PyObject *plain(PyObject *made) {
    if (made) PyObject_GC_UnTrack(made);
    return made;
}

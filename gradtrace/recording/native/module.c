/* The module: what Python hands over, and what it gets. */

#include "native.h"

#define DEFINE(name) PyObject *s_##name;
NAMES(DEFINE)
#define DEFINE_GIVEN(name) PyObject *g_##name;
GIVEN(DEFINE_GIVEN)

static PyObject *setup(PyObject *module, PyObject *args, PyObject *given) {
    (void)module;
    (void)args;
#define TAKE(name)                                                \
    {                                                             \
        PyObject *value = PyDict_GetItemString(given, #name);     \
        if (value) {                                              \
            Py_INCREF(value); /* for ever, as the module lives */ \
            g_##name = value;                                     \
        }                                                         \
    }
    if (given) { GIVEN(TAKE) }
    Py_RETURN_NONE;
}

static PyObject *py_measure(PyObject *module, PyObject *tensor) {
    (void)module;
    return measure(tensor);
}

static PyMethodDef functions[] = {
    {"setup", (PyCFunction)(void (*)(void))setup, METH_VARARGS | METH_KEYWORDS, NULL},
    {"measure", py_measure, METH_O, NULL},
    {"reduce_strided", reduce_strided, METH_VARARGS, NULL},
    {"saved_by", saved_by, METH_O, NULL},
    {"walk_on", walk_on, METH_VARARGS, NULL},
    {"trusted_below", trusted_below, METH_VARARGS, NULL},
    {"norms_of", norms_of, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) {
#define INTERN(name) \
    if (!(s_##name = PyUnicode_InternFromString(#name))) return NULL;
    NAMES(INTERN)
    PyObject *module = PyModule_Create(&definition);
    PyObject *post_hook = module ? PyType_FromSpec(&post_hook_spec) : NULL;
    PyObject *mode = post_hook ? PyType_FromSpec(&mode_spec) : NULL;
    if (!mode || PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) || PyModule_AddObjectRef(module, "PostHook", post_hook) || PyModule_AddObjectRef(module, "Mode", mode))
        Py_CLEAR(module);
    Py_XDECREF(mode);
    Py_XDECREF(post_hook);
    return module;
}

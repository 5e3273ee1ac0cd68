/* What a node keeps, as autograd/saved_tensors.py finds it. */

#include "native.h"

static int is_strided(PyObject *tensor) {
    PyObject *layout = PyObject_GetAttr(tensor, s_layout);
    Py_XDECREF(layout);
    return layout == g_strided && truth(PyObject_GetAttr(tensor, s_is_nested)) == 0;
}

/* Put shape and dtype of a saved tensor into a key; -1 where more than these tells what it keeps. */
static int put_kind(PyObject *key, Py_ssize_t at, PyObject *tensor) {
    PyObject *type = (PyObject *)Py_TYPE(tensor), *shape = NULL, *dtype = NULL;
    if (tensor == Py_None) {
        Py_INCREF(shape = Py_None);
        Py_INCREF(dtype = Py_None);
    } else if ((type == g_Tensor || type == g_Parameter) && is_strided(tensor)) {
        shape = PyObject_GetAttr(tensor, s_shape);
        dtype = shape ? PyObject_GetAttr(tensor, s_dtype) : NULL;
    }
    PyTuple_SetItem(key, at, shape);
    PyTuple_SetItem(key, at + 1, dtype);
    return dtype ? 0 : -1;
}

/* The key of what was read of a node: kinds of its `count` tensors, then the text of its plain attributes. */
static PyObject *key_of(PyObject *found, Py_ssize_t count) {
    Py_ssize_t all = PyTuple_Size(found);
    PyObject *key = PyTuple_New(2 * count + (all > count)), *rest = NULL, *text = NULL;
    for (Py_ssize_t i = 0; key && i < count; i++)
        if (put_kind(key, 2 * i, PyTuple_GetItem(found, i))) Py_CLEAR(key);
    if (key && all > count) {
        rest = PyTuple_GetSlice(found, count, all);
        text = rest ? PyObject_Repr(rest) : NULL; /* 1, 1.0 and True are equal, and so are 0.0 and -0.0 */
        if (text) PyTuple_SetItem(key, 2 * count, text);
        else Py_CLEAR(key);
        Py_XDECREF(rest);
    }
    return key;
}

PyObject *saved_by(PyObject *module, PyObject *node) {
    (void)module;
    PyObject *fields = PyDict_GetItemWithError(g_fields, (PyObject *)Py_TYPE(node)), *kept = NULL, *key = NULL;
    PyObject *read = fields ? PyTuple_GetItem(fields, 2) : Py_None;
    if (read && read != Py_None) {
        PyObject *found = PyObject_CallFunctionObjArgs(read, node, NULL);
        key = found ? key_of(found, PyTuple_Size(PyTuple_GetItem(fields, 0))) : NULL;
        Py_XDECREF(found);
        kept = key ? PyDict_GetItemWithError(PyTuple_GetItem(fields, 3), key) : NULL;
    }
    int fine = forget_error(); /* a nested tensor has no shape */
    Py_XINCREF(kept);
    if (!kept && fine) kept = PyObject_CallFunctionObjArgs(g_kept_new, node, key ? key : Py_None, NULL);
    Py_XDECREF(key);
    return kept;
}

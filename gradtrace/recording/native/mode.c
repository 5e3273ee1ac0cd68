/* The mode around each call of torch, as forward/mode.py has it. */

#include "native.h"

/* (code, offset) of the caller where it is the user's own; NULL where one has to look further out. */
static PyObject *place_of(PyObject *frame) {
    PyObject *code = PyObject_GetAttr(frame, s_f_code), *file = NULL, *place = NULL;
    if (code && code != g_outermost) file = PyObject_GetAttr(code, s_co_filename);
    if (file && PyDict_GetItemWithError(g_owners, file) == g_USER) {
        PyObject *offset = PyObject_GetAttr(frame, s_f_lasti);
        if (offset) place = plain(PyTuple_Pack(2, code, offset));
        Py_XDECREF(offset);
    }
    Py_XDECREF(file);
    Py_XDECREF(code);
    return place;
}

/* The user's place and a library's, as a tuple. */
static PyObject *places_of(PyObject *frame) {
    PyObject *user = place_of(frame);
    if (!user) return PyErr_Occurred() ? NULL : PyObject_CallFunctionObjArgs(g_find_user_place, frame, NULL);
    PyObject *both = PyTuple_Pack(2, user, Py_None);
    Py_DECREF(user);
    return both;
}

/* Whether the result is a plain tensor, the first output of the last node that was made. */
static int is_single(PyObject *result, PyObject *start, PyObject *end) {
    if ((PyObject *)Py_TYPE(result) != g_Tensor) return 0;
    int is = truth(PyObject_GetAttr(result, s_requires_grad));
    if (is != 1) return is;
    is = truth(PyObject_GetAttr(result, s_output_nr));
    if (is || PyLong_AsLongLong(end) - PyLong_AsLongLong(start) == 1) return is < 0 ? -1 : !is;
    PyObject *node = PyObject_GetAttr(result, s_grad_fn);
    int64_t number = node ? integer(call(node, s__sequence_nr)) : -1;
    Py_XDECREF(node);
    return PyErr_Occurred() ? -1 : number == PyLong_AsLongLong(end) - 1;
}

#define RECENT 64 /* results, of which a view is not measured again */

/* Remember what was measured of a result, by where it begins in memory. */
static int remember(PyObject *recent, PyObject *address, PyObject *result, PyObject *measured) {
    if (PyDict_Size(recent) >= RECENT) PyDict_Clear(recent);
    PyObject *ref = PyWeakref_NewRef(result, NULL), *version = PyObject_GetAttr(result, s__version);
    PyObject *known = ref && version ? PyTuple_Pack(3, ref, version, measured) : NULL;
    int done = known ? PyDict_SetItem(recent, address, known) : -1;
    Py_XDECREF(known);
    Py_XDECREF(version);
    Py_XDECREF(ref);
    return done;
}

/* What a result holds, measured now; one that begins where a recent one does, and may be a view of it, is Python's. */
static PyObject *value_of(PyObject *mode, PyObject *result) {
    PyObject *recent = PyObject_GetAttr(mode, s__recent), *address = recent ? call(result, s_data_ptr) : NULL;
    PyObject *before = address ? PyDict_GetItemWithError(recent, address) : NULL;
    int known = before ? PyWeakref_GetObject(PyTuple_GetItem(before, 0)) != Py_None : !address;
    if (!forget_error()) known = -1;
    PyObject *measured = known ? NULL : measure(result);
    if (known == 1) measured = PyObject_CallMethodObjArgs(mode, s__measure, result, NULL);
    if (!known && measured && is_shareable(measured) && remember(recent, address, result, measured)) Py_CLEAR(measured);
    Py_XDECREF(address);
    Py_XDECREF(recent);
    return measured;
}

/* Append the call; `last` is the one before it, or NULL: what is the same as there is the same object. */
static int append_call(PyObject *calls, PyObject *last, PyObject **of) {
    PyObject *start = of[0], *user = of[2];
    if (last) {
        PyObject *before = PyTuple_GetItem(last, 2), *end = PyTuple_GetItem(last, 1);
        int same = PyObject_RichCompareBool(before, user, Py_EQ);
        if (same < 0) return -1;
        if (same) user = before;
        same = PyObject_RichCompareBool(end, start, Py_EQ);
        if (same < 0) return -1;
        if (same) start = end;
    }
    PyObject *made = plain(PyTuple_Pack(5, start, of[1], user, of[3], of[4]));
    int done = made ? PyList_Append(calls, made) : -1;
    Py_XDECREF(made);
    return done;
}

static int note_single(PyObject *mode, PyObject *calls, PyObject *last, PyObject **span, PyObject *result) {
    PyObject *frame = (PyObject *)PyEval_GetFrame();
    PyObject *places = frame ? places_of(frame) : PyErr_Format(PyExc_RuntimeError, "a call without a frame");
    PyObject *value = places ? value_of(mode, result) : NULL;
    int done = -1;
    if (value) {
        PyObject *of[] = {span[0], span[1], PyTuple_GetItem(places, 0), PyTuple_GetItem(places, 1), value};
        done = append_call(calls, last, of);
    }
    Py_XDECREF(value);
    Py_XDECREF(places);
    return done;
}

#define FULL 65536 /* calls, after each so many of which it is looked whether their nodes still live */

static int call_on_full(PyObject *mode, PyObject *log) {
    PyObject *calls = PyObject_GetAttr(log, s_calls);
    Py_ssize_t count = calls ? PyList_Size(calls) : -1;
    Py_XDECREF(calls);
    if (count <= 0 || count % FULL) return count < 0 ? -1 : 0;
    PyObject *told = call(mode, s_on_full);
    Py_XDECREF(told);
    return told ? 0 : -1;
}

/* Note a call that made nodes; all but one plain output of the last of them is left to Python. */
static int note(PyObject *mode, PyObject **span, PyObject *result) {
    PyObject *log = PyObject_GetAttr(mode, s__log);
    PyObject *closed = log ? PyObject_GetAttr(log, s_closed) : NULL;
    PyObject *calls = closed ? PyObject_GetAttr(log, s_calls) : NULL;
    int done = -1, single = -1;
    if (calls && closed == Py_True) {
        done = 0;
    } else if (calls) {
        Py_ssize_t count = PyList_Size(calls);
        PyObject *last = count ? PyList_GetItem(calls, count - 1) : NULL;
        int noted = last ? PyObject_RichCompareBool(PyTuple_GetItem(last, 0), span[0], Py_GE) : 0;
        if (noted) {
            done = noted < 0 ? -1 : 0;
        } else if ((single = truth(PyObject_CallNoArgs(g_has_modes))) == 0) {
            single = is_single(result, span[0], span[1]);
            if (single == 1) {
                Py_XINCREF(last);
                done = note_single(mode, calls, last, span, result);
                Py_XDECREF(last);
            }
        } else {
            single = single < 0 ? -1 : 0;
        }
        if (!noted && single == 0) {
            PyObject *frame = (PyObject *)PyEval_GetFrame();
            PyObject *told = PyObject_CallMethodObjArgs(mode, s__note, span[0], span[1], result, frame, NULL);
            done = told ? 0 : -1;
            Py_XDECREF(told);
        }
        if (!done && !noted) done = call_on_full(mode, log);
    }
    Py_XDECREF(calls);
    Py_XDECREF(closed);
    Py_XDECREF(log);
    return done;
}

/* Show the call to who watches, with the number after its last node, or -1 where it made none. */
static int show(PyObject *mode, PyObject *made_call, PyObject *result, PyObject *last) {
    PyObject *told = made_call ? PyObject_CallMethodObjArgs(mode, s__show, made_call, result, last, NULL) : NULL;
    Py_XDECREF(told);
    return told ? 0 : -1;
}

static int is_shown(PyObject *mode) {
    PyObject *watcher = PyObject_GetAttr(mode, s_call_observer);
    Py_XDECREF(watcher);
    return watcher ? watcher != Py_None : -1;
}

static PyObject *function_meant(PyObject *func) {
    int trusted = PySet_Contains(g_trusted, func);
    if (trusted < 0) return NULL;
    if (!trusted) return PyObject_CallFunctionObjArgs(g_original_of, func, (PyObject *)PyEval_GetFrame(), NULL);
    Py_INCREF(func);
    return func;
}

static PyObject *mode_torch_function(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    if (count < 2 || count > 4) return PyErr_Format(PyExc_TypeError, "__torch_function__() takes 2 to 4 arguments");
    PyObject *kwargs = count > 3 && args[3] != Py_None && PyDict_Size(args[3]) ? args[3] : NULL;
    PyObject *positional = count > 2 ? args[2] : PyTuple_New(0);
    if (!positional) return NULL;
    if (count > 2) Py_INCREF(positional);
    PyObject *result = NULL, *end = NULL, *func = function_meant(args[0]);
    PyObject *start = func ? PyObject_CallNoArgs(g_sequence_number) : NULL;
    if (start) result = PyObject_Call(func, positional, kwargs);
    if (result) end = PyObject_CallNoArgs(g_sequence_number);
    int done = -1;
    if (end) {
        int made = PyObject_RichCompareBool(start, end, Py_NE);
        PyObject *span[] = {start, end};
        done = made < 0 ? -1 : made ? note(self, span, result) : 0;
        if (!done) done = is_shown(self);
        if (done > 0) {
            PyObject *last = made ? end : PyLong_FromLong(-1);
            PyObject *made_call = PyTuple_Pack(4, func, args[1], positional, kwargs ? kwargs : Py_None);
            done = show(self, made_call, result, last);
            Py_XDECREF(made_call);
            if (!made) Py_XDECREF(last);
        }
    }
    if (done) Py_CLEAR(result);
    Py_XDECREF(end);
    Py_XDECREF(start);
    Py_XDECREF(func);
    Py_DECREF(positional);
    return result;
}

static PyMethodDef mode_methods[] = {
    {"__torch_function__", (PyCFunction)(void (*)(void))mode_torch_function, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot mode_slots[] = {{Py_tp_methods, mode_methods}, {0, NULL}};
PyType_Spec mode_spec = {
    "gradtrace.recording.native._native.Mode", sizeof(PyObject), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, mode_slots,
};

/* The hook after a node, as backward/post_hook.py has it. */

#include <math.h>

#include "native.h"

#include <time.h>

#define REMEMBERED 4096 /* gradients on their way; of one that was forgotten the memory is read again */

static double clock_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

typedef struct {
    PyObject_HEAD
    PyObject *events, *in_flight, *hooks, *key, *roots, *on_run, *on_broken;
    long long task;
    double last;
} PostHook;

static int is_version(PyObject *version, PyObject *tensor) {
    PyObject *current = PyObject_GetAttr(tensor, s__version);
    int is = current ? PyObject_RichCompareBool(version, current, Py_EQ) : -1;
    Py_XDECREF(current);
    return is;
}

/* What was measured of a gradient that arrives: when it was sent, unless it was added to since. */
static PyObject *arrived_of(PostHook *self, PyObject *grad) {
    if (grad == Py_None) {
        Py_INCREF(grad);
        return grad;
    }
    PyObject *id = PyLong_FromVoidPtr(grad);
    if (!id) return NULL;
    PyObject *way = PyDict_GetItemWithError(self->in_flight, id);
    Py_DECREF(id);
    if (way && PyWeakref_GetObject(PyTuple_GetItem(way, 0)) == grad) {
        int same = is_version(PyTuple_GetItem(way, 1), grad);
        if (same < 0) return NULL;
        if (same) {
            PyObject *known = PyTuple_GetItem(way, 2);
            Py_INCREF(known);
            return known;
        }
    }
    return PyErr_Occurred() ? NULL : measure(grad);
}

/* Whether two plain tensors begin at different places in memory, and so are not the same elements; -1 where it raised. */
static int is_apart(PyObject *one, PyObject *other) {
    if ((PyObject *)Py_TYPE(one) != g_Tensor || (PyObject *)Py_TYPE(other) != g_Tensor) return 0;
    PyObject *at = call(one, s_data_ptr), *there = at ? call(other, s_data_ptr) : NULL;
    int apart = there ? PyObject_RichCompareBool(at, there, Py_NE) : forget_error() ? 0 : -1;
    Py_XDECREF(at);
    Py_XDECREF(there);
    return apart;
}

/* What is measured of a gradient that is sent on; `first`, which arrived, may be the same elements. */
static PyObject *sent_of(PyObject *grad, PyObject *first, PyObject *known) {
    if (!known || known == Py_None) return measure(grad);
    if (grad == first) {
        Py_INCREF(known);
        return known;
    }
    int apart = is_shareable(known) ? is_apart(grad, first) : 1;
    if (!apart) {
        PyObject *same = PyObject_CallFunctionObjArgs(g_same_memory, grad, first, known, NULL);
        if (same != Py_None) return same; /* or NULL */
        Py_DECREF(same);
    }
    return PyErr_Occurred() ? NULL : measure(grad);
}

static int remember(PostHook *self, PyObject *grad, PyObject *measured) {
    PyObject *id = PyLong_FromVoidPtr(grad), *ref = PyWeakref_NewRef(grad, NULL);
    PyObject *version = PyObject_GetAttr(grad, s__version);
    PyObject *way = id && ref && version ? PyTuple_Pack(3, ref, version, measured) : NULL;
    int done = way ? PyDict_SetItem(self->in_flight, id, way) : -1;
    Py_XDECREF(way);
    Py_XDECREF(version);
    Py_XDECREF(ref);
    Py_XDECREF(id);
    return done;
}

static PyObject *all_arrived(PostHook *self, PyObject *arriving) {
    Py_ssize_t count = PyTuple_Size(arriving);
    PyObject *found = plain(PyTuple_New(count));
    for (Py_ssize_t i = 0; found && i < count; i++) {
        PyObject *one = arrived_of(self, PyTuple_GetItem(arriving, i));
        if (!one) Py_CLEAR(found);
        else PyTuple_SetItem(found, i, one);
    }
    return found;
}

static PyObject *all_sent(PostHook *self, PyObject *sending, PyObject *first, PyObject *known) {
    Py_ssize_t count = PyTuple_Size(sending);
    PyObject *found = plain(PyTuple_New(count));
    for (Py_ssize_t i = 0; found && i < count; i++) {
        PyObject *grad = PyTuple_GetItem(sending, i), *one = grad;
        if (grad == Py_None) {
            Py_INCREF(one);
        } else {
            one = sent_of(grad, first, known);
            if (one && remember(self, grad, one) < 0) Py_CLEAR(one);
        }
        if (!one) Py_CLEAR(found);
        else PyTuple_SetItem(found, i, one);
    }
    return found;
}

/* The node ran, and won't again in this pass: its hook makes room for what is noted of the others. */
static int drop_hook(PostHook *self, Py_ssize_t position) {
    PyObject *hooks = PyList_GetItem(self->hooks, position);
    if (!hooks) return -1;
    if (hooks == Py_None) return 0;
    Py_INCREF(hooks);
    Py_INCREF(Py_None);
    int done = PyList_SetItem(self->hooks, position, Py_None);
    PyObject *cleared = NULL;
    if (!done && PyObject_Size(hooks) == 1) cleared = call(hooks, s_clear);
    else if (!done) PyObject_DelItem(hooks, self->key);
    Py_XDECREF(cleared);
    Py_DECREF(hooks);
    return forget_error() ? 0 : -1; /* it was taken away already */
}

static int close_run(PostHook *self, PyObject *position, PyObject *task) {
    long long current = PyLong_AsLongLong(task);
    if (current == self->task) {
        if (drop_hook(self, PyLong_AsSsize_t(position)) < 0) return -1;
    } else if (self->task < 0 && PySet_Contains(self->roots, position) == 1) {
        self->task = current;
    }
    if (self->on_run != Py_None) {
        PyObject *done = PyObject_CallFunctionObjArgs(self->on_run, position, NULL);
        if (!done) return -1;
        Py_DECREF(done);
    }
    if (PyDict_Size(self->in_flight) > REMEMBERED) PyDict_Clear(self->in_flight);
    return 0;
}

/* Whether what was measured is in memory that Python can read. */
static int is_on_host(PyObject *measured) {
    PyObject *device = PyTuple_GetItem(PyList_GetItem(measured, 0), 2);
    return device == s_cpu || !PyUnicode_CompareWithASCIIString(device, "cpu") || !PyUnicode_CompareWithASCIIString(device, "");
}

/* Whether a node ran on a device: how long it took there, nobody knows who does not wait for it. */
static int ran_elsewhere(PyObject *measured) {
    for (Py_ssize_t i = 0; i < PyTuple_Size(measured); i++) {
        PyObject *one = PyTuple_GetItem(measured, i);
        if (one != Py_None && !is_on_host(one)) return 1;
    }
    return 0;
}

/* Whether a number is not finite, or one in nested lists. */
static int holds_nonfinite(PyObject *values) {
    if (PyFloat_Check(values)) return !isfinite(PyFloat_AsDouble(values));
    if (!PyList_Check(values)) return 0;
    for (Py_ssize_t at = 0, count = PyList_Size(values); at < count; at++)
        if (holds_nonfinite(PyList_GetItem(values, at))) return 1;
    return 0;
}

/* Whether this may hold NaN or infinity. */
static int is_suspect(PyObject *measured) {
    PyObject *found = measured == Py_None ? NULL : PyList_GetItem(measured, 1);
    if (!found || found == Py_None) return 0;
    if (PyList_Check(found) || PyFloat_Check(found)) return holds_nonfinite(found);
    if ((PyObject *)Py_TYPE(found) != g_Sums) return is_on_host(measured);
    return PyLong_AsLong(PyTuple_GetItem(found, 7)) > 0 || PyLong_AsLong(PyTuple_GetItem(found, 8)) > 0;
}

/* Tell of gradients that may not be finite; 0, or -1 where that raised. */
static int call_on_broken(PostHook *self, PyObject *position, PyObject *arrived, PyObject *sent, PyObject *sending, PyObject *arriving) {
    Py_ssize_t count = self->on_broken == Py_None ? 0 : PyTuple_Size(sent), at = 0;
    while (at < count && !is_suspect(PyTuple_GetItem(sent, at))) at++;
    if (at >= count) return 0;
    PyObject *done = PyObject_CallFunctionObjArgs(self->on_broken, position, arrived, sent, sending, arriving, NULL);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static PyObject *post_hook_call(PostHook *self, PyObject *args, PyObject *kwargs) {
    double seconds = clock_now() - self->last;
    PyObject *position, *sending, *arriving;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OO!O!", &position, &PyTuple_Type, &sending, &PyTuple_Type, &arriving)) return NULL;
    PyObject *sent = NULL, *task = NULL, *took = NULL, *event = NULL, *result = NULL;
    PyObject *arrived = all_arrived(self, arriving);
    if (arrived) {
        int any = PyTuple_Size(arriving) > 0;
        sent = all_sent(
            self, sending, any ? PyTuple_GetItem(arriving, 0) : NULL, any ? PyTuple_GetItem(arrived, 0) : NULL
        );
    }
    if (sent && call_on_broken(self, position, arrived, sent, sending, arriving) < 0) Py_CLEAR(sent);
    if (sent) task = PyObject_CallNoArgs(g_task);
    if (task && (ran_elsewhere(arrived) || ran_elsewhere(sent))) Py_INCREF(took = Py_None);
    else if (task) took = PyFloat_FromDouble(seconds);
    if (took) event = plain(PyTuple_Pack(5, task, position, arrived, sent, took));
    if (event && !PyList_Append(self->events, event) && !close_run(self, position, task)) result = Py_None;
    Py_XINCREF(result);
    Py_XDECREF(event);
    Py_XDECREF(took);
    Py_XDECREF(task);
    Py_XDECREF(sent);
    Py_XDECREF(arrived);
    self->last = clock_now();
    return result;
}

static int post_hook_init(PostHook *self, PyObject *args, PyObject *kwargs) {
    PyObject *events, *in_flight, *hooks, *key, *roots;
    (void)kwargs;
    if (!PyArg_ParseTuple(
            args, "O!O!O!OO", &PyList_Type, &events, &PyDict_Type, &in_flight, &PyList_Type, &hooks, &key, &roots
        ))
        return -1;
#define HOLD(name) (Py_INCREF(name), self->name = name)
    HOLD(events), HOLD(in_flight), HOLD(hooks), HOLD(key), HOLD(roots);
    Py_INCREF(Py_None);
    self->on_run = Py_None;
    Py_INCREF(Py_None);
    self->on_broken = Py_None;
    self->task = -1;
    self->last = clock_now();
    return 0;
}

#define HELD(X) X(events) X(in_flight) X(hooks) X(key) X(roots) X(on_run) X(on_broken)

static int post_hook_traverse(PostHook *self, visitproc visit, void *arg) {
#define VISIT(name) Py_VISIT(self->name);
    HELD(VISIT)
    Py_VISIT(Py_TYPE((PyObject *)self));
    return 0;
}

static int post_hook_clear(PostHook *self) {
#define CLEAR(name) Py_CLEAR(self->name);
    HELD(CLEAR)
    return 0;
}

static void post_hook_dealloc(PostHook *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    post_hook_clear(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *post_hook_start(PostHook *self, PyObject *none) {
    (void)none;
    self->last = clock_now();
    Py_RETURN_NONE;
}

static PyMemberDef post_hook_members[] = {
    {"task", T_LONGLONG, offsetof(PostHook, task), 0, NULL},
    {"on_run", T_OBJECT_EX, offsetof(PostHook, on_run), 0, NULL},
    {"on_broken", T_OBJECT_EX, offsetof(PostHook, on_broken), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyMethodDef post_hook_methods[] = {
    {"arrived", (PyCFunction)arrived_of, METH_O, NULL},
    {"start_clock", (PyCFunction)post_hook_start, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot post_hook_slots[] = {
    {Py_tp_init, post_hook_init},       {Py_tp_call, post_hook_call},   {Py_tp_traverse, post_hook_traverse},
    {Py_tp_clear, post_hook_clear},     {Py_tp_dealloc, post_hook_dealloc}, {Py_tp_members, post_hook_members},
    {Py_tp_methods, post_hook_methods}, {0, NULL},
};
PyType_Spec post_hook_spec = {
    "gradtrace.recording.native._native.PostHook", sizeof(PostHook), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, post_hook_slots,
};

/* The hook after a node, as after.py has it. */

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
    PyObject *events, *on_way, *hooks, *key, *roots, *told, *broken;
    long long task;
    double last;
} After;

static int is_version(PyObject *version, PyObject *tensor) {
    PyObject *current = PyObject_GetAttr(tensor, s__version);
    int is = current ? PyObject_RichCompareBool(version, current, Py_EQ) : -1;
    Py_XDECREF(current);
    return is;
}

/* What was measured of a gradient that arrives: when it was sent, unless it was added to since. */
static PyObject *arrived_of(After *self, PyObject *grad) {
    if (grad == Py_None) {
        Py_INCREF(grad);
        return grad;
    }
    PyObject *id = PyLong_FromVoidPtr(grad);
    if (!id) return NULL;
    PyObject *way = PyDict_GetItemWithError(self->on_way, id);
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

/* What is measured of a gradient that is sent on; `first`, which arrived, may be the same elements. */
static PyObject *sent_of(PyObject *grad, PyObject *first, PyObject *known) {
    if (!known || known == Py_None) return measure(grad);
    if (grad == first) {
        Py_INCREF(known);
        return known;
    }
    if (is_shareable(known)) {
        PyObject *same = PyObject_CallFunctionObjArgs(g_same_memory, grad, first, known, NULL);
        if (same != Py_None) return same; /* or NULL */
        Py_DECREF(same);
    }
    return PyErr_Occurred() ? NULL : measure(grad);
}

static int remember(After *self, PyObject *grad, PyObject *measured) {
    PyObject *id = PyLong_FromVoidPtr(grad), *ref = PyWeakref_NewRef(grad, NULL);
    PyObject *version = PyObject_GetAttr(grad, s__version);
    PyObject *way = id && ref && version ? PyTuple_Pack(3, ref, version, measured) : NULL;
    int done = way ? PyDict_SetItem(self->on_way, id, way) : -1;
    Py_XDECREF(way);
    Py_XDECREF(version);
    Py_XDECREF(ref);
    Py_XDECREF(id);
    return done;
}

static PyObject *all_arrived(After *self, PyObject *arriving) {
    Py_ssize_t count = PyTuple_Size(arriving);
    PyObject *found = plain(PyTuple_New(count));
    for (Py_ssize_t i = 0; found && i < count; i++) {
        PyObject *one = arrived_of(self, PyTuple_GetItem(arriving, i));
        if (!one) Py_CLEAR(found);
        else PyTuple_SetItem(found, i, one);
    }
    return found;
}

static PyObject *all_sent(After *self, PyObject *sending, PyObject *first, PyObject *known) {
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
static int drop_hook(After *self, Py_ssize_t position) {
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

static int close_run(After *self, PyObject *position, PyObject *task) {
    long long current = PyLong_AsLongLong(task);
    if (current == self->task) {
        if (drop_hook(self, PyLong_AsSsize_t(position)) < 0) return -1;
    } else if (self->task < 0 && PySet_Contains(self->roots, position) == 1) {
        self->task = current;
    }
    if (self->told != Py_None) {
        PyObject *done = PyObject_CallFunctionObjArgs(self->told, position, NULL);
        if (!done) return -1;
        Py_DECREF(done);
    }
    if (PyDict_Size(self->on_way) > REMEMBERED) PyDict_Clear(self->on_way);
    return 0;
}

/* Whether this may hold NaN or infinity, and is not so small that all its values are known. */
static int is_suspect(PyObject *measured) {
    PyObject *found = measured == Py_None ? NULL : PyList_GetItem(measured, 1);
    if (!found || PyList_Check(found) || PyFloat_Check(found)) return 0;
    if ((PyObject *)Py_TYPE(found) != g_Sums) return 1;
    return PyLong_AsLong(PyTuple_GetItem(found, 7)) > 0 || PyLong_AsLong(PyTuple_GetItem(found, 8)) > 0;
}

/* Tell of gradients that may not be finite; 0, or -1 where that raised. */
static int tell_broken(After *self, PyObject *position, PyObject *arrived, PyObject *sent, PyObject *sending, PyObject *arriving) {
    Py_ssize_t count = self->broken == Py_None ? 0 : PyTuple_Size(sent), at = 0;
    while (at < count && !is_suspect(PyTuple_GetItem(sent, at))) at++;
    if (at >= count) return 0;
    PyObject *done = PyObject_CallFunctionObjArgs(self->broken, position, arrived, sent, sending, arriving, NULL);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static PyObject *after_call(After *self, PyObject *args, PyObject *kwargs) {
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
    if (sent && tell_broken(self, position, arrived, sent, sending, arriving) < 0) Py_CLEAR(sent);
    if (sent) task = PyObject_CallNoArgs(g_task);
    if (task) took = PyFloat_FromDouble(seconds);
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

static int after_init(After *self, PyObject *args, PyObject *kwargs) {
    PyObject *events, *on_way, *hooks, *key, *roots;
    (void)kwargs;
    if (!PyArg_ParseTuple(
            args, "O!O!O!OO", &PyList_Type, &events, &PyDict_Type, &on_way, &PyList_Type, &hooks, &key, &roots
        ))
        return -1;
#define HOLD(name) (Py_INCREF(name), self->name = name)
    HOLD(events), HOLD(on_way), HOLD(hooks), HOLD(key), HOLD(roots);
    Py_INCREF(Py_None);
    self->told = Py_None;
    Py_INCREF(Py_None);
    self->broken = Py_None;
    self->task = -1;
    self->last = clock_now();
    return 0;
}

#define HELD(X) X(events) X(on_way) X(hooks) X(key) X(roots) X(told) X(broken)

static int after_traverse(After *self, visitproc visit, void *arg) {
#define VISIT(name) Py_VISIT(self->name);
    HELD(VISIT)
    Py_VISIT(Py_TYPE((PyObject *)self));
    return 0;
}

static int after_clear(After *self) {
#define CLEAR(name) Py_CLEAR(self->name);
    HELD(CLEAR)
    return 0;
}

static void after_dealloc(After *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack(self);
    after_clear(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *after_start(After *self, PyObject *none) {
    (void)none;
    self->last = clock_now();
    Py_RETURN_NONE;
}

static PyMemberDef after_members[] = {
    {"task", T_LONGLONG, offsetof(After, task), 0, NULL},
    {"told", T_OBJECT_EX, offsetof(After, told), 0, NULL},
    {"broken", T_OBJECT_EX, offsetof(After, broken), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyMethodDef after_methods[] = {
    {"arrived", (PyCFunction)arrived_of, METH_O, NULL},
    {"start", (PyCFunction)after_start, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot after_slots[] = {
    {Py_tp_init, after_init},       {Py_tp_call, after_call},   {Py_tp_traverse, after_traverse},
    {Py_tp_clear, after_clear},     {Py_tp_dealloc, after_dealloc}, {Py_tp_members, after_members},
    {Py_tp_methods, after_methods}, {0, NULL},
};
PyType_Spec after_spec = {
    "gradtrace.recording.native._native.After", sizeof(After), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, after_slots,
};

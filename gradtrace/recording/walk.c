/* The graph below the roots of a backward pass, as walk.py walks it. */

#include "native.h"

/* The name of a node's type; each read of the attribute would make a new string. */
static PyObject *op_of(PyObject *node, PyObject *names) {
    PyObject *type = (PyObject *)Py_TYPE(node), *op = PyDict_GetItemWithError(names, type);
    if (op || PyErr_Occurred()) {
        Py_XINCREF(op);
        return op;
    }
    op = PyObject_GetAttr(type, s___name__);
    if (op && PyDict_SetItem(names, type, op)) Py_CLEAR(op);
    return op;
}

/* The position of a node, new where it was not met before; borrowed. */
static PyObject *position_of(PyObject *node, PyObject *positions, PyObject *nodes) {
    PyObject *known = PyDict_GetItemWithError(positions, node);
    if (known || PyErr_Occurred()) return known;
    PyObject *position = PyLong_FromSsize_t(PyList_Size(nodes));
    int done = position ? PyDict_SetItem(positions, node, position) : -1;
    if (!done) done = PyList_Append(nodes, node);
    Py_XDECREF(position); /* which the dictionary holds */
    return done ? NULL : position;
}

static int follow(PyObject *source, Py_ssize_t index, PyObject *edge, PyObject **found) {
    PyObject *target = PyTuple_GetItem(edge, 0);
    if (!target) return -1;
    if (target == Py_None) return 0;
    PyObject *position = position_of(target, found[0], found[1]), *number = PyLong_FromSsize_t(index);
    PyObject *link = position && number ? plain(PyTuple_Pack(4, source, number, position, PyTuple_GetItem(edge, 1))) : NULL;
    int done = link ? PyList_Append(found[2], link) : -1;
    Py_XDECREF(link);
    Py_XDECREF(number);
    return done;
}

/* Follow all edges of a node; `found` are positions, nodes and links, which grow. */
static int follow_all(PyObject *node, PyObject *source, PyObject **found) {
    PyObject *edges = PyObject_GetAttr(node, s_next_functions);
    Py_ssize_t count = edges ? PyTuple_Size(edges) : -1;
    int done = count < 0 ? -1 : 0;
    for (Py_ssize_t i = 0; !done && i < count; i++) done = follow(source, i, PyTuple_GetItem(edges, i), found);
    Py_XDECREF(edges);
    return done;
}

/* walk_on(positions, nodes, ops, links, leaves): `positions` and `nodes` hold the roots, the others nothing. */
PyObject *walk_on(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *positions, *nodes, *ops, *links, *leaves, *names = PyDict_New();
    int done = names && PyArg_ParseTuple(args, "OOOOO", &positions, &nodes, &ops, &links, &leaves) ? 0 : -1;
    for (Py_ssize_t i = 0; !done && i < PyList_Size(nodes); i++) {
        PyObject *node = PyList_GetItem(nodes, i), *source = PyLong_FromSsize_t(i), *op = op_of(node, names);
        PyObject *found[] = {positions, nodes, links};
        done = source && op ? PyList_Append(ops, op) : -1;
        if (!done) {
            int is_leaf = PyObject_RichCompareBool(op, s_AccumulateGrad, Py_EQ);
            done = is_leaf < 0 ? -1 : is_leaf ? PyList_Append(leaves, source) : follow_all(node, source, found);
        }
        Py_XDECREF(op);
        Py_XDECREF(source);
    }
    Py_XDECREF(names);
    if (done) return NULL;
    Py_RETURN_NONE;
}

/* Append the targets of a node's edges that were not met before. */
static int meet_targets(PyObject *node, PyObject *met, PyObject *nodes) {
    PyObject *edges = PyObject_GetAttr(node, s_next_functions);
    Py_ssize_t count = edges ? PyTuple_Size(edges) : -1;
    int done = count < 0 ? -1 : 0;
    for (Py_ssize_t i = 0; !done && i < count; i++) {
        PyObject *target = PyTuple_GetItem(PyTuple_GetItem(edges, i), 0);
        int known = target == Py_None ? 1 : PySet_Contains(met, target);
        if (!known) done = PySet_Add(met, target) || PyList_Append(nodes, target) ? -1 : 0;
        if (known < 0) done = -1;
    }
    Py_XDECREF(edges);
    return done;
}

/* leaves_below(nodes): the tensors of the leaves; `nodes` holds the roots, and then all nodes. */
PyObject *leaves_below(PyObject *module, PyObject *nodes) {
    (void)module;
    PyObject *met = PySet_New(nodes), *names = PyDict_New(), *leaves = PyList_New(0);
    int done = met && names && leaves && PyList_Check(nodes) ? 0 : -1;
    for (Py_ssize_t i = 0; !done && i < PyList_Size(nodes); i++) {
        PyObject *node = PyList_GetItem(nodes, i), *op = op_of(node, names);
        int is_leaf = op ? PyObject_RichCompareBool(op, s_AccumulateGrad, Py_EQ) : -1;
        Py_XDECREF(op);
        if (is_leaf == 1) {
            PyObject *leaf = PyObject_GetAttr(node, s_variable);
            done = leaf ? PyList_Append(leaves, leaf) : -1;
            Py_XDECREF(leaf);
        } else {
            done = is_leaf < 0 ? -1 : meet_targets(node, met, nodes);
        }
    }
    Py_XDECREF(met);
    Py_XDECREF(names);
    if (done) Py_CLEAR(leaves);
    return leaves;
}

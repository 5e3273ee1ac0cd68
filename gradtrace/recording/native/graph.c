/* The graph below the roots of a backward pass, as autograd/graph.py walks it. */

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

/* The pair of a leaf and what is known of it, if that is trusted and has no gradient yet; else None. */
static PyObject *trusted_pair(PyObject *leaf, PyObject *trusted) {
    PyObject *id = PyLong_FromVoidPtr(leaf), *known = id ? PyDict_GetItemWithError(trusted, id) : NULL;
    Py_XDECREF(id);
    if (!known && PyErr_Occurred()) return NULL;
    PyObject *same = known ? PyObject_CallNoArgs(PyTuple_GetItem(known, 0)) : NULL;
    PyObject *grad = same == leaf ? PyObject_GetAttr(leaf, s_grad) : NULL;
    PyObject *hooks = grad == Py_None ? PyObject_GetAttr(leaf, s__post_accumulate_grad_hooks) : NULL;
    int is = hooks ? !PyObject_IsTrue(hooks) : 0;
    Py_XDECREF(same);
    Py_XDECREF(grad);
    Py_XDECREF(hooks);
    if (PyErr_Occurred()) return NULL;
    if (is) return plain(PyTuple_Pack(2, leaf, known));
    Py_RETURN_NONE;
}

/* Append the pair of the leaf of this node; 1 where there is none. */
static int add_trusted(PyObject *node, PyObject *trusted, PyObject *pairs) {
    PyObject *leaf = PyObject_GetAttr(node, s_variable), *pair = leaf ? trusted_pair(leaf, trusted) : NULL;
    int done = !pair ? -1 : pair == Py_None ? 1 : PyList_Append(pairs, pair);
    Py_XDECREF(leaf);
    Py_XDECREF(pair);
    return done;
}

/* trusted_below(nodes, trusted): see backward/leaf_grads.py; `nodes` holds the roots, and then all nodes. */
PyObject *trusted_below(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *nodes, *trusted;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &nodes, &PyDict_Type, &trusted)) return NULL;
    PyObject *met = PySet_New(nodes), *pairs = PyList_New(0);
    int done = met && pairs ? 0 : -1;
    for (Py_ssize_t i = 0; !done && i < PyList_Size(nodes); i++) {
        PyObject *node = PyList_GetItem(nodes, i);
        int is_leaf = (PyObject *)Py_TYPE(node) == g_AccumulateGrad;
        done = is_leaf ? add_trusted(node, trusted, pairs) : meet_targets(node, met, nodes);
    }
    Py_XDECREF(met);
    if (!done) return pairs;
    Py_XDECREF(pairs);
    if (done < 0) return NULL;
    Py_RETURN_NONE;
}

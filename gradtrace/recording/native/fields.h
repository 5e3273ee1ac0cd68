/* What a reduction finds, over the finite elements; counts are exact up to 2**53. One list, for all who fill or read it. */

#ifndef GRADTRACE_FIELDS_H
#define GRADTRACE_FIELDS_H

enum { FINITE, LOW, HIGH, TOTAL, SQUARES, ZEROS, NANS, INFS, FIELDS };

#endif

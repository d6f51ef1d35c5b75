/*
 * Nesterov's method from C, without Python: a chain of 200 masses between springs, pulled at its end.
 *
 * Build and run:
 *     nagd-numba export . && cc -std=c99 -O2 descend.c nagd_numba.o -lm -o descend && ./descend
 *
 * The energy is the sum of (x[k+1] - x[k])^2/2 over the springs, with x = 0 before the first mass, minus x of the last:
 * its minimum is the straight line x[k] = k + 1.  The condition number of this problem is 65,000.  Prints how many steps
 * gradient descent and Nesterov's method (with the best constant momentum) need to come within 1e-6 of it.
 */
#include <math.h>
#include <stdio.h>

#include "nagd_numba.h"

enum { N = 200 };

static double error_and_gradient(const double *x, double *gradient)
{
    double worst = 0;
    for (int k = 0; k < N; k++) {
        double left = x[k] - (k > 0 ? x[k - 1] : 0);
        double right = k < N - 1 ? x[k + 1] - x[k] : 1;
        gradient[k] = left - right;
        worst = fmax(worst, fabs(x[k] - (k + 1)));
    }
    return worst;
}

static int steps_to_the_minimum(double lr, double momentum)
{
    double x[N] = {0}, gradient[N], velocity[N] = {0};
    int steps = 0;
    while (error_and_gradient(x, gradient) > 1e-6) {
        int status = nagd_nag_step_f64(x, gradient, velocity, N, lr, momentum, momentum, NAGD_CONVENTION_TORCH, 1, 0.0, 0, 0);
        if (status != NAGD_OK) {
            fprintf(stderr, "nagd_nag_step_f64: status %d\n", status);
            return -1;
        }
        steps++;
    }
    return steps;
}

int main(void)
{
    /* The eigenvalues of the chain lie between these. */
    const double pi = acos(-1.0);
    const double least = 4 * pow(sin(pi / (4 * N + 2)), 2), most = 4;
    const double root = sqrt(least / most);
    int plain = steps_to_the_minimum(1 / most, 0.0);
    int nesterov = steps_to_the_minimum(1 / most, (1 - root) / (1 + root));
    if (plain < 0 || nesterov < 0) return 1;
    printf("gradient descent: %7d steps\n", plain);
    printf("Nesterov:         %7d steps, one in %.0f\n", nesterov, (double)plain / nesterov);
    return nesterov < plain ? 0 : 1;
}
